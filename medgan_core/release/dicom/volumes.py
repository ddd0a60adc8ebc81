"""File-sets on disk: numbered folders, a DICOMDIR that lists them, and labels.csv over all of it.

A DICOMDIR takes pydicom a time that grows with the square of its files. So a set of more than `MOST` files
becomes several, as on discs: VOL000, VOL001, …, each complete with the DICOMDIR of its patients.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import UID

from medgan_core.errors import InputError

MOST = 500
TABLE, DIRECTORY = "labels.csv", "DICOMDIR"
COLUMNS = ["file", "patient", "index", "class", "modality"]
_FILE = re.compile(r"(VOL\d{3,}/)?(DICOMDIR|PT\w{6}/ST\w{6}/SE\w{6}/[A-Z]{2}\w{6})")


@dataclass(frozen=True)
class Entry:
    """A file to be written, the index of its image among those drawn, and the name of its class."""

    dataset: Dataset
    index: int
    label: str

    def row(self) -> list[object]:
        """What the table says of it beside its name."""
        return [self.dataset.PatientID, self.index, self.label, self.dataset.Modality]


@dataclass
class Shelf:
    """Volumes in a folder: `rows` of the table, identifiers `seen`, and how many volumes there are."""

    folder: Path
    uid: str
    rows: list[list[object]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    volumes: int = 0

    def fill(self, patients: Iterable[Iterable[Entry]]) -> int:
        """Write all files of all patients; how many. InputError where an instance comes twice."""
        entries = iter(patients)
        while self._volume(entries):
            self.volumes += 1
        if self.volumes == 1:
            self._unwrap()
        with (self.folder / TABLE).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([COLUMNS, *self.rows])
        return len(self.rows)

    def _volume(self, patients: Iterator[Iterable[Entry]]) -> bool:
        """The next volume, of whole patients; False where none is left."""
        told: dict[str, list[object]] = {}
        with _file_set() as files:
            for patient in patients:
                for entry in patient:
                    uid = str(entry.dataset.SOPInstanceUID)
                    if uid in self.seen:  # a file-set would keep the first one and say nothing
                        raise InputError(f"instance {uid} twice: give each series an index of its own")
                    self.seen.add(uid)
                    told[uid] = entry.row()
                    files.add(entry.dataset)
                if len(told) >= MOST:
                    break
            if not told:
                return False
            self._write(files, told)
        return True

    def _write(self, files: FileSet, told: dict[str, list[object]]) -> None:
        name = f"VOL{self.volumes:03d}"
        files.ID, files.UID = f"SYNTHETIC_{self.volumes}", UID(f"{self.uid}.{self.volumes}")
        files.write(self.folder / name)
        for instance in files:
            path = Path(instance.path).relative_to(self.folder).as_posix()
            self.rows.append([path, *told[str(instance.SOPInstanceUID)]])

    def _unwrap(self) -> None:
        """A single volume needs no folder of its own."""
        volume = self.folder / "VOL000"
        for path in volume.iterdir():
            path.rename(self.folder / path.name)
        volume.rmdir()
        for row in self.rows:
            row[0] = str(row[0]).removeprefix("VOL000/")


def replaceable(folder: Path) -> bool:
    """Whether a folder is empty or holds nothing but an earlier export."""
    if not folder.is_dir():
        return False
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if not names:
        return True
    table = folder / TABLE
    return table.is_file() and _ours(table) and all(_FILE.fullmatch(name) for name in names - {TABLE})


def _ours(table: Path) -> bool:
    with table.open(newline="", encoding="utf-8", errors="replace") as stream:
        return next(csv.reader(stream), None) == COLUMNS


@contextmanager
def _file_set() -> Iterator[FileSet]:
    files = FileSet()
    try:
        yield files
    finally:  # the library leaves its copies to the garbage collector, which complains
        files._stage["t"].cleanup()
