"""In which phase a round is, by what lies on the disks of the coordinator and of one hospital alone.

    sending      the coordinator has journalled the round before; the trainer has not been asked yet
    asked        the trainer has noted the request in its log, and not charged it yet
    training     the charge is in the ledger and open: data are touched
    sealing      the update is being written, and the ledger does not know it as sealed
    sealed       the ledger knows it as sealed, the log does not say yet that it was answered
    returning    the trainer has answered; no update of the round lies at the coordinator
    arriving     some updates lie at the coordinator, and others do not
    aggregating  all updates are there
    journal      the next state is being written, or is not in rounds.jsonl yet

A look costs about a millisecond and changes nothing.
"""

import json
import re
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

PHASES = (
    "sending",
    "asked",
    "training",
    "sealing",
    "sealed",
    "returning",
    "arriving",
    "aggregating",
    "journal",
)
UNCLEAR = ""
"""The phase while the ledger is locked: it is being written to."""

_TAIL_BYTES = 4096
_STATE = re.compile(r"\.?round-(\d{6})\.safetensors(\.[0-9a-f]+\.part)?")


@dataclass(frozen=True)
class Trace:
    """What the disks say at one moment, of the round `round` and of one site in it.

    `arrived` of `sites` updates lie at the coordinator. `journal`: the state after the round is being
    written, or is not in rounds.jsonl yet. `locked`: the ledger could not be read.
    """

    round: int
    journal: bool
    arrived: int
    sites: int
    asked: bool
    locked: bool
    charged: bool
    computed: bool
    sealed: bool
    answered: bool

    @property
    def phase(self) -> str:
        """One of PHASES, or UNCLEAR."""
        if self.journal:
            return "journal"
        if self.answered:
            return (
                "returning"
                if not self.arrived
                else "arriving"
                if self.arrived < self.sites
                else "aggregating"
            )
        if not self.asked:
            return "sending"
        if self.locked:
            return UNCLEAR
        if not self.charged:
            return "asked"
        return "sealed" if self.sealed else "sealing" if self.computed else "training"


class Watch:
    """Looks at the folders of a coordinator's run and of one hospital's part in it."""

    def __init__(self, run: Path, site: Path, sites: int) -> None:
        self._run, self._site, self._sites = run, site, sites
        self._ledger = _Ledger(site / "ledger" / "ledger.sqlite", run.name)

    def look(self) -> Trace:
        """What the disks say now."""
        number, journal = self.journalled()
        asked, answered = self._noted(number)
        locked = asked and not answered and not self._ledger.read()
        return Trace(
            number,
            journal,
            len(_names(self._run / "arrivals")),
            self._sites,
            asked,
            locked,
            number in self._ledger.charged,
            self._computed(number),
            number in self._ledger.sealed,
            answered,
        )

    def journalled(self) -> tuple[int, bool]:
        """The round in work, and whether its outcome is being written."""
        states = [found for name in _names(self._run / "state") if (found := _STATE.fullmatch(name))]
        kept = max((int(found[1]) for found in states if not found[2]), default=0)
        part = max((int(found[1]) for found in states if found[2]), default=0)
        told = lines(self._run / "rounds.jsonl")
        after = max(kept, part)
        return (after - 1, True) if after > told else (told, False)

    def _computed(self, number: int) -> bool:
        wanted = f"{self._run.name}-round-{number:06d}-"
        return any(
            name.lstrip(".").startswith(wanted) for name in _names(self._site / "runs" / self._run.name)
        )

    def _noted(self, number: int) -> tuple[bool, bool]:
        """Whether the site's log says that it was asked for this round, and that it has answered."""
        kinds = set()
        for line in _tail(self._site / "log.jsonl"):
            with suppress(ValueError):  # the first one is cut, the last one perhaps not complete
                note = json.loads(line)
                facts = note["facts"]
                if (facts.get("run"), facts.get("round")) == (self._run.name, number):
                    kinds.add(note["kind"])
        return "asked" in kinds, "answered" in kinds


class _Ledger:
    """The rounds that a ledger knows as charged and as sealed, read without a wait and without a trace."""

    def __init__(self, path: Path, run: str) -> None:
        self._path, self._run = path, run
        self._last = 0
        self.charged: set[int] = set()
        self.sealed: set[int] = set()

    def read(self) -> bool:
        """Take in what is new; False where somebody writes at this moment."""
        query = "SELECT sequence, kind, body FROM entries WHERE sequence > ? ORDER BY 1"
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", timeout=0, uri=True)) as book:
                rows = book.execute(query, (self._last,)).fetchall()
        except sqlite3.OperationalError:
            return False
        for sequence, kind, body in rows:
            self._last = sequence
            self._take(kind, json.loads(body))
        return True

    def _take(self, kind: str, body: dict[str, object]) -> None:
        facts = body["receipt"] if kind == "charge" else body
        if isinstance(facts, dict) and facts.get("run") == self._run and kind in ("charge", "seal"):
            (self.charged if kind == "charge" else self.sealed).add(facts["round"])


def lines(path: Path) -> int:
    """How many lines a file has, 0 where it is missing."""
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _tail(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().split(b"\n")
    except OSError:
        return []
