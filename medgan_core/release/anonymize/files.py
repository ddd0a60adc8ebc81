"""Every file of a folder, those in zip files too, as bytes. Links are not followed."""

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from medgan_core.errors import InputError

_LARGEST = 4 << 30


def every_file(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name below `folder`, content) of each file in the order of names; `x.zip/member` in a zip file.

    A zip file comes as its members, and as itself where it cannot be opened. Raises InputError where the
    folder cannot be read, or where a file is larger than 4 GiB.
    """
    if not folder.is_dir():
        raise InputError(f"{folder.name}: expected a folder")
    for root, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            if path.is_symlink() or not path.is_file():
                continue
            if path.stat().st_size > _LARGEST:
                raise InputError("a file of more than 4 GiB: split it, or leave it out of the folder")
            yield from _content(path.relative_to(folder).as_posix(), path)


def _content(name: str, path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _refusal(error) from error
    members = zip_members(content) if content[:4] == b"PK\x03\x04" else None
    if members is None:
        yield name, content
        return
    for member, inside in members:
        yield f"{name}/{member}", inside


def zip_members(content: bytes) -> list[tuple[str, bytes]] | None:
    """Name and content of each member; None for what is no readable zip file, or unpacks to over 4 GiB."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(info.file_size for info in archive.infolist()) > _LARGEST:
                return None
            return [(i.filename, archive.read(i)) for i in archive.infolist() if not i.is_dir()]
    except (zipfile.BadZipFile, RuntimeError, OSError, ValueError, NotImplementedError, EOFError):
        return None


def _refuse(error: OSError) -> None:
    raise _refusal(error)


def _refusal(error: OSError) -> InputError:
    # the name of a file may be that of a patient
    return InputError(f"a file or folder cannot be read: {error.strerror}; mend its permissions")
