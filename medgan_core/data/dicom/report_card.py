"""The ingest report card: what became of every file, for the site's own eyes. It holds no patient."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from medgan_core.data.dicom.reasons import EXPECTED, REFUSED, REPAIRED, Refusal, Repair


@dataclass(frozen=True)
class ReportCard:
    """Counts of files: `files` = `read` + refused; of those read, `mended` needed a repair or more.

    `refused` and `repaired` count by code, `cohort` by what the site's own filter said. `quarantine` lists
    (keyed hash of the file's name, code) of those that are refused and not merely left out.
    `text_checked`: whether text was looked for.
    """

    files: int
    read: int
    mended: int
    refused: Mapping[str, int]
    repaired: Mapping[str, int]
    cohort: Mapping[str, int]
    quarantine: tuple[tuple[str, str], ...]
    text_checked: bool

    @classmethod
    def of(cls, outcomes: Iterable["Outcome"], *, text_checked: bool) -> "ReportCard":
        """The card of all files."""
        found = list(outcomes)
        refused = [o for o in found if o.refusal is not None]
        read = [o for o in found if o.refusal is None]
        return cls(
            files=len(found),
            read=len(read),
            mended=sum(bool(o.repairs) for o in read),
            refused=_counted(str(o.refusal) for o in refused),
            repaired=_counted(str(repair) for o in read for repair in o.repairs),
            cohort=_counted(o.detail for o in refused if o.refusal is Refusal.COHORT),
            quarantine=tuple((o.key, str(o.refusal)) for o in refused if o.refusal not in EXPECTED),
            text_checked=text_checked,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        return asdict(self)

    @classmethod
    def of_json(cls, body: Mapping[str, Any]) -> "ReportCard":
        """Back from `as_json`."""
        return cls(**{**body, "quarantine": tuple((key, code) for key, code in body["quarantine"])})

    def quarantine_csv(self) -> str:
        """The list of refused files as CSV: the keyed hash of each name, and why."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([("file", "reason"), *self.quarantine])
        return stream.getvalue()

    def lines(self) -> list[tuple[str, int, str]]:
        """(what became of them, how many files, why) of all that was not read as it was."""
        out = [(_state(code), count, REFUSED[Refusal(code)][0]) for code, count in self.refused.items()]
        out += [("repaired", count, REPAIRED[Repair(code)][0]) for code, count in self.repaired.items()]
        return out + [("left out", count, f"cohort: {reason}") for reason, count in self.cohort.items()]

    def summary(self) -> str:
        """One line of all that was refused."""
        return "; ".join(f"{count} files: {why}" for state, count, why in self.lines() if state == "refused")

    def table(self) -> Table:
        """For a person's terminal."""
        table = Table(title=f"{self.files} files: {self.read} read, {self.mended} of them repaired")
        for name in ("", "files", "why"):
            table.add_column(name, justify="right" if name == "files" else "left")
        for state, count, why in self.lines():
            table.add_row(state, str(count), why)
        return table


@dataclass(frozen=True)
class Outcome:
    """What became of one file; `key` is the keyed hash of its name."""

    key: str
    refusal: Refusal | None
    detail: str
    repairs: frozenset[str]


def _state(code: str) -> str:
    return "left out" if Refusal(code) in EXPECTED else "refused"


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
