"""How a deployed run stands, as files in its folder that the next process reads.

    standing.json  state and reason       sites.json  what each site said last
    submitted.json Flower's run of it     stop        a person wants it to end
    serving.lock   held by who serves it  refusals.jsonl  what sites gave instead of an answer, so far
    untold.json    the sites that have not heard of its end
    receipts.jsonl what sites were charged for, written as their answers arrive

`standing.json` and `sites.json` are written by whoever holds the lock, `submitted.json` by `up`.
"""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from medgan_core.messages import Receipt
from medgan_core.record import RunFolder, read_json, write_atomically, write_json
from server.folder import held, is_held

SITES = "chosen-sites.json"
"""The names of a run's sites, in the order of the study's weights."""

State = Literal["proposing", "running", "paused", "finished", "failed", "stopped"]
GOING: tuple[State, ...] = ("proposing", "running")
OVER: tuple[State, ...] = ("finished", "stopped")
_NOT_TOLD = "; not told: "
_LONGEST_REASON = 500


@dataclass(frozen=True)
class RunStanding:
    """The state of a run with a reason of one line; `since` is UTC, ISO 8601."""

    state: State
    reason: str = ""
    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


@dataclass(frozen=True)
class SiteStanding:
    """What the coordinator heard of a site last. `spent` is ε of its whole account, by its own receipt.

    `answer` is how it stands to the study ("" before it said anything), `round` the last one that has its
    update, -1 before the first; `reason` why it gave none to what it was asked last, if so.
    """

    answer: str = ""
    round: int = -1
    spent: float | str = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Submission:
    """Flower's run that serves ours, the round at which it began, and how often no round came of one."""

    flower_run: str
    round: int
    fruitless: int
    when: float


class RunFiles:
    """The files of one run."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._standing = run.path / "standing.json"
        self._sites = run.path / "sites.json"
        self._submitted = run.path / "submitted.json"
        self._stop = run.path / "stop"
        self._refusals = run.path / "refusals.jsonl"
        self._receipts = run.path / "receipts.jsonl"
        self._untold = run.path / "untold.json"
        self._served = run.path / "serving.json"
        self._lock = run.path / "serving.lock"

    @property
    def standing(self) -> RunStanding:
        """How the run stands; a new one is to be proposed."""
        if not self._standing.is_file():
            return RunStanding("proposing", "not begun yet", "")
        return RunStanding(**read_json(self._standing))

    def stand(self, state: State, reason: str = "") -> None:
        """Write how the run stands."""
        write_json(self._standing, asdict(RunStanding(state, " ".join(reason.split()))))

    def end(self, state: State, why: str, untold: Sequence[str]) -> None:
        """Write how the run ended, and which sites are still to be told of it."""
        write_json(self._untold, list(untold))  # first: a process that dies in between is followed by another
        self.stand(state, f"{why}{_NOT_TOLD if untold else ''}{', '.join(untold)}"[:_LONGEST_REASON])

    @property
    def untold(self) -> tuple[str, ...]:
        """The sites that have not heard that the run is over, and hold what they reserved until they do."""
        over = self.standing.state in OVER and self._untold.is_file()
        return tuple(read_json(self._untold)) if over else ()

    def now_told(self, names: Collection[str]) -> None:
        """Write that these sites have heard of the run's end as well."""
        why = self.standing.reason.partition(_NOT_TOLD)[0]
        self.end(self.standing.state, why, [name for name in self.untold if name not in names])

    @property
    def sites(self) -> dict[str, SiteStanding]:
        """What was heard of the sites, by name."""
        if not self._sites.is_file():
            return {}
        return {name: SiteStanding(**body) for name, body in read_json(self._sites).items()}

    def heard(self, sites: Mapping[str, SiteStanding]) -> None:
        """Write what was heard of the sites."""
        write_json(self._sites, {name: asdict(site) for name, site in sites.items()})

    def change(self, name: str, **changes: Any) -> None:
        """Write what changed about a site."""
        known = self.sites
        now = replace(known.get(name, SiteStanding()), **changes)
        if known.get(name) != now:
            self.heard(known | {name: now})

    def note_refusal(self, site: str, reason: str) -> None:
        """Append to refusals.jsonl, one line each: when, after how many finished rounds, who, and why."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"time": now, "rounds_done": self.rounds_done, "site": site, "reason": reason}
        # On a full disk the run itself says so, when its state cannot be kept.
        with suppress(OSError), self._refusals.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def note_receipt(self, receipt: Receipt) -> None:
        """Append what a site was charged for, durably, before anything else is made of its answer."""
        # Two lines' ends: the line before it may have been cut by a crash.
        with self._receipts.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(receipt.to_json())}\n")
            file.flush()
            os.fsync(file.fileno())

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """All that were noted, also in rounds that came to nothing. A line cut by a crash is left out."""
        found = []
        for line in self._receipts.read_bytes().splitlines() if self._receipts.is_file() else ():
            with suppress(ValueError):
                found.append(Receipt.from_json(json.loads(line)))
        return tuple(found)

    @property
    def submitted(self) -> Submission | None:
        """Which run of Flower's serves this one; None before the first, and after `forget_submission`."""
        return Submission(**read_json(self._submitted)) if self._submitted.is_file() else None

    def submit(self, submission: Submission) -> None:
        """Write which run of Flower's serves this one now."""
        write_json(self._submitted, asdict(submission))

    def forget_submission(self) -> None:
        """A person asked to go on: earlier failures count no more."""
        self._submitted.unlink(missing_ok=True)

    @property
    def stop_wanted(self) -> bool:
        """Whether a person wants the run to end."""
        return self._stop.exists()

    def want_stop(self) -> None:
        """Ask whoever serves the run to end it."""
        write_atomically(self._stop, b"")

    @property
    def rounds_done(self) -> int:
        """How many rounds are finished and kept."""
        path = self.run.path / "rounds.jsonl"
        return len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0

    def serve(self, flower_run: str) -> AbstractContextManager[None]:
        """Serve the run in this process. Raises InputError where another one does."""
        lock = held(self._lock, f"run {self.run.name} is being served by another process")
        return _Serving(lock, self._served, flower_run)

    @property
    def served(self) -> bool:
        """Whether a living process serves the run."""
        return is_held(self._lock)

    def was_served_by(self, flower_run: str) -> bool:
        """Whether the process of this run of Flower's has begun to serve."""
        return self._served.is_file() and read_json(self._served).get("flower_run") == flower_run


class _Serving(AbstractContextManager[None]):
    def __init__(self, lock: AbstractContextManager[None], path: Path, flower_run: str) -> None:
        self._held, self._path, self._flower_run = lock, path, flower_run

    def __enter__(self) -> None:
        self._held.__enter__()
        write_json(self._path, {"flower_run": self._flower_run, "pid": os.getpid()})

    def __exit__(self, *raised: Any) -> None:
        self._held.__exit__(*raised)
