"""From a folder of images to a new one: every file is used or named, and nothing is overwritten."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medgan_core.data.pacs.headers import quiet
from medgan_core.data.places import DAMAGE
from medgan_core.errors import DataError, InputError, MedGANError
from medgan_core.record import write_atomically
from medgan_core.release.apply.finding import Found, find_cases
from medgan_core.release.apply.model import Model
from medgan_core.release.apply.pictures import Case, Made, Pictures

SCORES = "scores.csv"
_COLUMNS = ("file", "image", "score")
Told = Callable[[int, int], None]
"""Hears how many cases of how many are done."""


@dataclass
class Outcome:
    """How many `cases` were used, with how many `images`; names and reasons of those `left` or `failed`."""

    cases: int = 0
    images: int = 0
    left: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def apply_to(model: Model, source: Path, out: Path, told: Told = lambda done, total: None) -> Outcome:
    """Use a model on all that lies at `source`, and write to the folder `out`, which is new or empty.

    A case that cannot be used is in the outcome, and nothing of it is written. Raises InputError for an
    `out` that holds something, or a source without images.
    """
    _check_new(out)
    with quiet():  # a header's values have no place in a log
        return _applied(model, source, out, told)


def _applied(model: Model, source: Path, out: Path, told: Told) -> Outcome:
    data = model.release.study.data
    series = model.purpose == "segmentation" or data.kind == "nifti"
    found = find_cases(source, data, model.modalities, series=series)
    outcome = Outcome(left=found.left, failed=found.failed)
    rows: list[tuple[str, str, str]] = []
    for done, case in enumerate(_in_turn(found)):
        told(done, done + 1 + len(found.cases))
        try:
            pictures, made = _used(model, case, out)
        except MedGANError as error:
            outcome.failed.append((case.name, str(error)))
            continue
        outcome.cases += 1
        outcome.images += len(pictures.images)
        rows += _rows(case, pictures, made)
    if rows:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([_COLUMNS, *rows])
        write_atomically(out / SCORES, stream.getvalue().encode())
    return outcome


def _in_turn(found: Found) -> Iterator[Case]:
    """Each case is forgotten once it was used: it holds its pixels."""
    found.cases.reverse()
    while found.cases:
        yield found.cases.pop()


def _check_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"OUT {out.name} exists and is not empty: choose a new or an empty folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"OUT {out.name}: {error.strerror}; choose another place") from error


def _used(model: Model, case: Case, out: Path) -> tuple[Pictures, Made]:
    """Read, make and write one case. Raises MedGANError."""
    try:
        pictures = case.read()
        made = model.make(pictures)
        files = list(case.files(made))
    except DAMAGE as error:
        raise DataError(f"cannot be used ({type(error).__name__}: {_line(error)})") from error
    taken = next((name for name, _ in files if (out / name).exists() or name == SCORES), None)
    if taken is not None:
        raise DataError(f"{taken} is the output of another input too; rename one of them")
    for name, content in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out / name, content)
    return pictures, made


def _rows(case: Case, pictures: Pictures, made: Made) -> Iterator[tuple[str, str, str]]:
    if made.scores is not None:
        for name, score in zip(pictures.names, made.scores.tolist(), strict=True):
            yield case.name, name, f"{score:.6f}"


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200]
