"""What goes to an archive: marked synthetic files alone, each reported by its name."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from medgan_core.errors import InputError, MedGANError, RefusedError

ATTEMPTS, PAUSE = 3, 2.0
_PREAMBLE = 132
_SHOWN = 5
_TAGS = ["SOPClassUID", "SOPInstanceUID", "SyntheticData"]
_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class Item:
    """A file to send: its path, the name that messages give it, and what it is."""

    path: Path
    name: str
    sop_class: str
    uid: str


@dataclass(frozen=True)
class Outcome:
    """What became of a file: why it was not stored, empty where it was. `passing`: another try may help."""

    item: Item
    why: str = ""
    passing: bool = False


class Archive(Protocol):
    """A server that takes files."""

    def store(self, items: Sequence[Item]) -> Iterable[Outcome]:
        """Store some files, with one outcome for each of them, in any order."""


def collect(folder: Path) -> list[Item]:
    """The DICOM files below a folder, in the order of their names; others and DICOMDIRs are left out.

    Raises RefusedError naming the first file that is not marked SyntheticData=YES: nothing is sent then.
    """
    if not folder.is_dir():
        raise InputError(f"{folder.name}: expected a release, or a folder of synthetic DICOM files")
    items = list(_items(folder))
    if not items:
        raise InputError(f"{folder.name} holds no DICOM file: write some with medgan generate --format dicom")
    return items


def send(
    items: Sequence[Item],
    archive: Archive,
    told: Callable[[Outcome], None] = lambda _: None,
    pause: float = PAUSE,
) -> list[Outcome]:
    """Store all files; the outcomes of those that were not. What may pass is tried `ATTEMPTS` times in all.

    Before the second attempt it waits `pause` seconds, and twice as long before each further one.
    `told` hears of each file once, when it is stored or given up. A file that was stored before is no
    failure: a server keeps the one it has, and the same identifier always has the same bytes.
    """
    waiting, failed = list(items), []
    for attempt in range(1, ATTEMPTS + 1):
        again = []
        for outcome in archive.store(waiting):
            if outcome.passing and attempt < ATTEMPTS:
                again.append(outcome.item)
                continue
            told(outcome)
            if outcome.why:
                failed.append(outcome)
        waiting = again
        if not waiting:
            break
        time.sleep(pause * 2 ** (attempt - 1))
    return failed


def complaint(failed: Sequence[Outcome], total: int) -> MedGANError:
    """What to tell a person of files that were not stored, the first few by name."""
    lines = "; ".join(f"{outcome.item.name}: {outcome.why}" for outcome in failed[:_SHOWN])
    more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
    return MedGANError(
        f"{len(failed)} of {total} files were not stored: {lines}{more}. "
        "Mend that and send again: what is there stays as it is"
    )


def _items(folder: Path) -> Iterator[Item]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _is_dicom(path):
            name = path.relative_to(folder).as_posix()
            try:
                header = _header(path)
                kind = str(header.file_meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID", ""))
                uid, marked = str(header.get("SOPInstanceUID", "")), str(header.get("SyntheticData", ""))
            except (InvalidDicomError, OSError, ValueError, AttributeError, EOFError) as error:
                raise InputError(f"{name} cannot be read ({type(error).__name__}): remove it") from error
            if kind == _DIRECTORY:
                continue
            if marked != "YES":
                raise RefusedError(
                    f"{name} is not marked SyntheticData = YES: nothing was sent; only synthetic files are"
                )
            yield Item(path, name, kind, uid)


def _header(path: Path) -> Dataset:
    with warnings.catch_warnings():  # of attributes that we never look at
        warnings.simplefilter("ignore")
        return dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(_PREAMBLE)[128:] == b"DICM"
