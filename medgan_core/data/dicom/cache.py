"""What was read, kept for the next start: prepared pixels, keyed hashes and labels; no header, no name.

A file is one JSON line, then the rows (JSON) and the pixels (float32). Without a key the pixels are mapped
into memory, copy on write. With one, everything after the first line is encrypted (see `sealing`). A mapped
file would have to lie on the disk in the clear, so an encrypted one is decrypted into memory as a whole, and
nothing is mapped.
"""

import json
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cryptography.exceptions import InvalidTag
from numpy.typing import NDArray
from torch import Tensor

from medgan_core.config import DataConfig
from medgan_core.data.dicom.report_card import ReportCard
from medgan_core.data.dicom.sealing import decrypted, encrypted, new_salt
from medgan_core.data.dicom.sources import Source, stamp
from medgan_core.data.dicom.terms import Ingested, Terms
from medgan_core.disk import fsync_folder
from medgan_core.errors import MedGANError
from medgan_core.patients import Pseudonym
from medgan_core.sections import ReadingConfig

FORMAT = 1
"""Goes into every identity: files of another version of the reading are not used."""
SUFFIX = ".images"
_KEPT = 4
_SETTINGS = (*ReadingConfig.model_fields, "image_size", "channels")


def identity(
    entries: Iterable[tuple[str, Source, str]], data: DataConfig, terms: Terms, rules: str = ""
) -> str:
    """A name for a content with its settings, in hex.

    `entries` are (name, source, patient that a manifest states); a file's content is told by its size and
    time of change, since reading all of it would take as long as decoding. `rules` names the functions of a
    cohort.
    """
    settings = {name: getattr(data, name) for name in _SETTINGS}
    said = [FORMAT, settings, terms.text_check, terms.needs_patient, rules]
    digest = sha256(json.dumps(said, sort_keys=True).encode())
    for name, source, patient in entries:
        line = json.dumps([name, *stamp(source), patient])
        digest.update(line.encode() + (sha256(source).digest() if isinstance(source, bytes) else b""))
    return terms.patient(f"cache\n{digest.hexdigest()}")[:32]


@dataclass(frozen=True)
class Cache:
    """A folder of what was read; `key` encrypts."""

    folder: Path
    key: bytes | None = field(default=None, repr=False)

    def load(self, name: str) -> Ingested | None:
        """What was kept under a name; None where there is nothing, or nothing that is whole."""
        try:
            with (self.folder / f"{name}{SUFFIX}").open("rb") as file:
                line = file.readline(1 << 12)
                first = json.loads(line)
                if (self.key is None) == first["encrypted"]:
                    return None
                return self._decrypted(file.read(), line, first) if self.key else _mapped(file, line, first)
        except (OSError, ValueError, KeyError, TypeError, InvalidTag):
            return None

    def _decrypted(self, body: bytes, line: bytes, first: dict[str, Any]) -> Ingested:
        whole = decrypted(body, line, self.key or b"", bytes.fromhex(first["salt"]))
        pixels = np.frombuffer(whole, np.float32, offset=first["rows"])
        return _ingested(bytes(whole[: first["rows"]]), pixels, first)

    def keep(self, name: str, found: Ingested) -> None:
        """Write a file of mode 0600, whole or not at all, and forget all but the newest few."""
        rows = _rows(found)
        rows += b" " * (-len(rows) % mmap.ALLOCATIONGRANULARITY)
        salt = new_salt()
        shape = list(found.images.shape)
        said = {"rows": len(rows), "shape": shape, "encrypted": self.key is not None, "salt": salt.hex()}
        line = json.dumps(said).encode()
        line += b" " * (-(len(line) + 1) % mmap.ALLOCATIONGRANULARITY) + b"\n"
        body = memoryview(rows + found.images.numpy().tobytes())
        parts = encrypted(body, line, self.key, salt) if self.key else iter((body,))
        try:
            self._write(self.folder / f"{name}{SUFFIX}", line, parts)
        except OSError as error:
            raise MedGANError(f"the cache of images could not be written: {error.strerror}") from None

    def _write(self, path: Path, line: bytes, parts: Iterable[bytes | memoryview]) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(line)
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        fsync_folder(self.folder)
        old = sorted(self.folder.glob(f"*{SUFFIX}"), key=lambda p: p.stat().st_mtime_ns)[:-_KEPT]
        for path in old:
            with suppress(OSError):
                path.unlink()


def _rows(found: Ingested) -> bytes:
    labels = sorted(set(found.labels))
    said = {
        "labels": labels,
        "label": [labels.index(label) for label in found.labels],
        "patients": found.patients,
        "named": found.named,
        "files": found.files,
        "report": found.report.as_json(),
    }
    return json.dumps(said).encode()


def _mapped(file: Any, line: bytes, first: dict[str, Any]) -> Ingested:
    rows = file.read(first["rows"])
    count = int(np.prod(first["shape"]))
    if os.fstat(file.fileno()).st_size != len(line) + len(rows) + 4 * count:
        raise ValueError("cut off")
    if not count:
        return _ingested(rows, np.empty(0, np.float32), first)
    pixels = np.memmap(file, np.float32, mode="c", offset=len(line) + len(rows), shape=(count,))
    return _ingested(rows, pixels, first)


def _ingested(rows: bytes, pixels: NDArray[np.float32], first: dict[str, Any]) -> Ingested:
    said = json.loads(rows)
    images: Tensor = torch.from_numpy(pixels).reshape(first["shape"])
    return Ingested(
        images=images,
        labels=tuple(said["labels"][i] for i in said["label"]),
        patients=tuple(map(Pseudonym, said["patients"])),
        named=tuple(said["named"]),
        files=tuple(said["files"]),
        report=ReportCard.of_json(said["report"]),
    )
