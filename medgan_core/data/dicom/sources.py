"""What is read: files of a folder of any depth, members of the zips in it, and what came from an archive."""

import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from medgan_core.data.dicom.reasons import QuarantineError, Refusal
from medgan_core.data.dicom.sealing import unsealed

LARGEST_MEMBER = 1 << 28
"""Bytes of a zip's member after inflation; more is refused before it is inflated."""
NOT_IMAGES = (".csv", ".json", ".txt", ".md", ".html", ".xml", ".png", ".jpg", ".jpeg", ".toml")
"""Names that stand beside images and are not looked at."""


@dataclass(frozen=True)
class Member:
    """A file in a zip on disk."""

    archive: Path
    name: str


@dataclass(frozen=True)
class Sealed:
    """An object that was pulled from an archive, as `sealing.sealed` wrote it under this key."""

    path: Path
    key: bytes | None = field(default=None, repr=False)


Source = Path | Member | Sealed | bytes


def file_of(source: Source) -> Path | None:
    """The file on disk that a source lies in."""
    if isinstance(source, bytes | Path):
        return source if isinstance(source, Path) else None
    return source.archive if isinstance(source, Member) else source.path


def find(place: Path) -> Iterator[tuple[str, Source]]:
    """All files below a folder, or of one zip, as (name below it, source), in the order of their names.

    Links are not followed. A zip that cannot be opened is yielded as the file that it is.
    """
    if place.is_file():
        yield from _members(place, "") if zipfile.is_zipfile(place) else [(place.name, place)]
        return
    for folder, below, files in os.walk(place):
        below.sort()
        for file in sorted(files):
            path = Path(folder) / file
            name = path.relative_to(place).as_posix()
            if _left(name) or not path.is_file() or path.is_symlink():
                continue
            if file.lower().endswith(".zip") and zipfile.is_zipfile(path):
                yield from _members(path, f"{name}/")
            else:
                yield name, path


def _members(archive: Path, prefix: str) -> Iterator[tuple[str, Source]]:
    try:
        with zipfile.ZipFile(archive) as opened:
            names = sorted(info.filename for info in opened.infolist() if not info.is_dir())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        yield prefix.rstrip("/") or archive.name, archive
        return
    for name in names:
        if not _left(name):
            yield prefix + name, Member(archive, name)


def _left(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return hidden or name.lower().endswith(NOT_IMAGES)


def stamp(source: Source) -> tuple[str, int, int]:
    """What tells contents apart without reading them: member, size in bytes and time of change in ns."""
    if isinstance(source, bytes):
        return "", len(source), 0
    path = file_of(source)
    try:
        found = (path or Path()).stat()
    except OSError:
        return "", 0, 0
    return source.name if isinstance(source, Member) else "", found.st_size, found.st_mtime_ns


def open_source(source: Source) -> tuple[BinaryIO, int]:
    """An open stream and its size in bytes. Raises QuarantineError for what cannot be opened or is empty."""
    try:
        stream, size = _open(source)
    except (OSError, zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, ValueError) as error:
        raise QuarantineError(Refusal.UNREADABLE, type(error).__name__) from None
    if size == 0:
        stream.close()
        raise QuarantineError(Refusal.EMPTY)
    return stream, size


def _open(source: Source) -> tuple[BinaryIO, int]:
    if isinstance(source, bytes):
        return io.BytesIO(source), len(source)
    if isinstance(source, Path):
        return source.open("rb"), source.stat().st_size
    if isinstance(source, Sealed):
        body = unsealed(source.path.read_bytes(), source.key)
        return io.BytesIO(body), len(body)
    archive = _zip(source.archive)
    if archive.getinfo(source.name).file_size > LARGEST_MEMBER:
        raise QuarantineError(Refusal.TOO_LARGE, "a member of a zip")
    body = archive.read(source.name)
    return io.BytesIO(body), len(body)


@lru_cache(maxsize=4)
def _zip(path: Path) -> zipfile.ZipFile:
    """Kept open: each opening reads the archive's whole directory."""
    return zipfile.ZipFile(path)
