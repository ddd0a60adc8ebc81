"""Where an outcome may be written, and what stands beside its files: a record and a notice."""

import re
from collections.abc import Mapping
from pathlib import Path

from medgan_core.disk import fsync_folder
from medgan_core.errors import InputError
from medgan_core.record import write_atomically, write_json

RECORD, NOTICE, STUDIES = "anonymize.json", "NOTICE.txt", "studies"
_OURS = re.compile(
    r"anonymize\.json|NOTICE\.txt|ANON-[A-Z2-7]{16}/[^/]+/[^/]+/[^/]+\.dcm|"
    r"studies/(?:labels\.csv|(?:VOL\d+/)?DICOMDIR|(?:VOL\d+/)?PT\w{6}/ST\w{6}/SE\w{6}/[A-Z]{2}\w{6})"
)


def check_folders(source: Path, out: Path) -> None:
    """Refuse an `out` that overlaps with the real files, or that holds anything but an earlier outcome."""
    if not source.is_dir():
        raise InputError(f"IN {source.name}: expected a folder of DICOM files")
    real, new = source.resolve(), out.resolve()
    if real == new or real in new.parents or new in real.parents:
        raise InputError("OUT lies in IN, or IN in OUT: choose a folder apart from the real files")
    if out.exists() and not _earlier(out):
        raise InputError(f"OUT {out.name} exists and is no earlier outcome: choose an empty or a new folder")


def tell(folder: Path, record: Mapping[str, object], notice: tuple[str, ...]) -> None:
    """Write the record and the notice of an outcome."""
    write_json(folder / RECORD, {"format": 1, **record})
    write_atomically(folder / NOTICE, ("\n".join(notice) + "\n").encode())
    fsync_folder(folder)


def _earlier(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return not names or (RECORD in names and all(_OURS.fullmatch(name) for name in names))
