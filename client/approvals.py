"""Proposals that reached this hospital, and what was decided of each: one small file for each study.

A decision is of one proposal, by its whole digest, and of one version of the trainer: another proposal or
another version needs another decision. A file is always the old one or the new one, whatever is killed when.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from client.diary import utc_now
from client.folder import locked
from medgan_core.errors import InputError, IntegrityError, PolicyError, RefusedError
from medgan_core.proposals import Proposal
from medgan_core.record import make_folder, read_json, write_json

Answer = Literal["approved", "denied", "refused"]
_SHORTEST_PREFIX = 8
_MOST_WAITING = 100
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Decision:
    """Who decided what and when, on which proposal (its digest) and for which version of the trainer.

    "refused" is the policy's no, "denied" a person's. `rules` are the broken rules, as the site's person sees
    them.
    """

    answer: Answer
    digest: str
    trainer: str
    by: str
    time: str
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A proposal with its decision, if there is one. `closed` is why its run has ended, "" before that."""

    proposal: Proposal
    came: str
    decision: Decision | None = None
    closed: str = ""

    @property
    def digest(self) -> str:
        """The proposal's."""
        return self.proposal.digest()

    def decided(self, trainer: str) -> Decision | None:
        """The decision on this very proposal; a yes holds for this version of the trainer alone."""
        found = self.decision
        if found is None or found.digest != self.digest:
            return None
        return found if found.trainer == trainer or found.answer == "denied" else None

    def approved(self, trainer: str) -> bool:
        """Whether rounds of this run may be answered."""
        found = self.decided(trainer)
        return not self.closed and found is not None and found.answer == "approved"

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON; the inverse of `from_json`."""
        return {
            "digest": self.digest,
            "came": self.came,
            "closed": self.closed,
            "decision": asdict(self.decision) if self.decision else None,
            "proposal": self.proposal.to_json(),
        }

    @classmethod
    def from_json(cls, body: Any) -> Self:
        """Read what `to_json` wrote. IntegrityError where the proposal is not the one that was kept."""
        try:
            decision = body["decision"]
            made = cls(
                Proposal.from_json(body["proposal"]),
                str(body["came"]),
                Decision(**{**decision, "rules": tuple(decision["rules"])}) if decision else None,
                str(body["closed"]),
            )
            if made.digest == body["digest"]:
                return made
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
        raise IntegrityError(
            "a file in studies/ was changed or is damaged: remove it, and have the study sent again"
        )


class Approvals:
    """The folder of studies. Whoever decides writes; whoever works reads it again each time."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = utc_now) -> None:
        self.folder, self.now = folder, now

    def note(self, proposal: Proposal) -> Entry:
        """The entry of a proposal, kept when it is new.

        PolicyError for a run's second proposal with another content, for a name of a run that cannot be, and
        where too many proposals wait already.
        """
        if not _RUN.fullmatch(proposal.run):
            _refuse("run", "its name may have letters, digits and ._- (128 at most), a letter or digit first")
        path = self._path(proposal.digest())
        if path.exists():
            return Entry.from_json(read_json(path))
        entries = self.all()
        if any(entry.proposal.run == proposal.run for entry in entries):
            _refuse("run", f"{proposal.run} was proposed before with another content; begin a new run")
        if sum(entry.decision is None and not entry.closed for entry in entries) >= _MOST_WAITING:
            _refuse("run", f"{_MOST_WAITING} proposals wait for a decision already")
        make_folder(self.folder)
        return self._keep(Entry(replace(proposal, witnesses={}), self._time()))

    def all(self) -> tuple[Entry, ...]:
        """All entries, the oldest first."""
        found = [Entry.from_json(read_json(path)) for path in self.folder.glob("[0-9a-f]*.json")]
        return tuple(sorted(found, key=lambda entry: (entry.came, entry.digest)))

    def find(self, prefix: str) -> Entry:
        """The entry whose digest begins like this. InputError where not one does, or it is too short."""
        if len(prefix) < _SHORTEST_PREFIX:
            raise InputError(
                f"STUDY {prefix!r}: expected the digest's first {_SHORTEST_PREFIX} digits or more, as "
                "medgan-client status shows them; they say which content is meant"
            )
        found = [entry for entry in self.all() if entry.digest.startswith(prefix.lower())]
        if len(found) != 1:
            raise InputError(
                f"STUDY {prefix}: {len(found)} studies have such a digest; see medgan-client status"
            )
        return found[0]

    def of_run(self, run: str) -> Entry | None:
        """The entry of a run."""
        return next((entry for entry in self.all() if entry.proposal.run == run), None)

    def decide(
        self, entry: Entry, answer: Answer, trainer: str, by: str, rules: tuple[str, ...] = ()
    ) -> Entry:
        """Keep a decision. RefusedError for a run that has ended."""
        with self._latest(entry) as latest:
            if latest.closed:
                raise RefusedError(
                    f"run {entry.proposal.run} has ended here ({latest.closed}): begin a new run"
                )
            decision = Decision(answer, entry.digest, trainer, by, self._time(), rules)
            return self._keep(replace(latest, decision=decision))

    def close(self, entry: Entry, why: str) -> Entry:
        """Keep that a run has ended; again: nothing happens."""
        with self._latest(entry) as latest:
            return latest if latest.closed else self._keep(replace(latest, closed=why))

    def active(self, trainer: str, most: int) -> tuple[str, ...]:
        """The digests of the studies whose turn it is: the first to be approved that have not ended."""
        ready = [entry for entry in self.all() if entry.approved(trainer)]
        ready.sort(
            key=lambda entry: (entry.decision.time if entry.decision else "", entry.came, entry.digest)
        )
        return tuple(entry.digest for entry in ready[:most])

    @contextmanager
    def _latest(self, entry: Entry) -> Iterator[Entry]:
        """The entry as it is on disk now, alone with it: a person may have thought for long."""
        with locked(self.folder / ".lock"):
            yield Entry.from_json(read_json(self._path(entry.digest)))

    def _keep(self, entry: Entry) -> Entry:
        write_json(self._path(entry.digest), entry.to_json())
        return entry

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest[:16]}.json"

    def _time(self) -> str:
        """Whose turn it is follows from it, so two decisions of one second must still have an order."""
        return f"{self.now():%Y-%m-%dT%H:%M:%S.%fZ}"


def _refuse(name: str, message: str) -> None:
    raise PolicyError(f"{name}: {message}", f"{name}: {message}")
