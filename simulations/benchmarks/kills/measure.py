"""Federations of real processes, with a kill in each round but a few, until enough kills have landed."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory

from medgan_core.config import Study
from medgan_core.errors import MedGANError, RoundError
from server.planning import decided
from server.run_file import OVER, RunFiles
from simulations.benchmarks.kills.books import (
    Charges,
    charges_of,
    doubled,
    expected_charges,
    spent_by_site,
    undisturbed,
)
from simulations.benchmarks.kills.phases import Watch
from simulations.benchmarks.kills.rows import Cell, Kill, add_rows, missing, rows_of
from simulations.benchmarks.kills.strikes import Aim, Hit, Processes, strike
from simulations.benchmarks.two_hospitals import two_hospitals
from simulations.federation import Say, Stage, finish, under_way
from simulations.hospitals import Launch

_SMALL = (
    "rounds=14",
    "evaluation.synthetic_images=64",
    "one_shot.iterations=5",
    "training.discriminator_steps=4",
    "training.generator_width=8",
    "training.discriminator_width=8",
)
_QUIET = (0, 1)
"""Rounds without a kill, with which the others are compared; round 0 begins with a wait for nodes."""
_ROUND_SECONDS = 900.0
_POLL_SECONDS = 0.02


def small_study(overrides: Sequence[str] = ()) -> Study:
    """The phantoms at two hospitals, with rounds of a second of work."""
    return two_hospitals([*_SMALL, *overrides])


def measure(study: Study, kills: int, path: Path, seed: int, say: Say) -> None:
    """Play federations until `kills` have landed, and keep those of each one in the file at `path`.

    `seed` draws when exactly in a phase a kill comes. What is in the file counts.
    """
    while cells := missing(kills, rows := rows_of(path)):
        random = Random(f"{seed}-{len(rows)}")
        with TemporaryDirectory(prefix="k-") as out:
            told = play(study, Path(out), cells, random, say)
        add_rows(path, told)
        landed = sum(row.landed for row in told)
        say(f"{landed} kills landed, {len(missing(kills, rows_of(path)))} are left")
        if not landed:
            raise RoundError("no kill landed in a whole federation: this machine is too busy to tell")


def play(study: Study, out: Path, cells: Sequence[Cell], random: Random, say: Say) -> tuple[Kill, ...]:
    """One federation with as many of these kills as its rounds allow, and what came of each."""
    study = decided(study)
    with under_way(study, out, Launch(), say) as (stage, run):
        struck = _Struck(stage, run, study, random, say)
        struck.through(list(cells))
        completed = _finished(stage, run, say)
    books = {name: charges_of(stage.site(name), run.run.name) for name in stage.names}
    exact = all(charges == expected_charges(study) for charges in books.values())
    exact = exact and spent_by_site(stage) == undisturbed(study, out)
    return struck.kills(books, completed, exact)


def _finished(stage: Stage, run: RunFiles, say: Say) -> bool:
    """Whether the run comes to its release."""
    try:
        finish(stage, run, lambda _: None)
    except MedGANError as error:
        say(str(error))
        return False
    return True


@dataclass(frozen=True)
class _Round:
    """A round: its number, when it began and ended by the monotonic clock, whether it is over, its kill."""

    number: int
    began: float
    ended: float
    over: bool
    cell: Cell | None
    site: str
    hit: Hit | None

    @property
    def seconds(self) -> float:
        """From the end of the round before."""
        return self.ended - self.began


class _Struck:
    """The rounds of one federation as they go by."""

    def __init__(self, stage: Stage, run: RunFiles, study: Study, random: Random, say: Say) -> None:
        self._stage, self._run, self._study, self._random, self._say = stage, run, study, random, say
        self._rounds: list[_Round] = []
        self._last = study.last_round

    def through(self, cells: list[Cell]) -> None:
        """Follow the run to the end of its last round; a kill that missed is tried again after the others."""
        for number in range(self._last + 1):
            cell = cells.pop(0) if cells and number not in _QUIET else None
            done = self._round(number, cell)
            self._rounds.append(done)
            if not done.over:
                self._say(f"round {number} did not end: {self._run.standing.reason}")
                return
            if cell is not None and not (done.hit and done.hit.landed):
                cells.append(cell)
            self._tell(done)

    def kills(self, books: Mapping[str, Charges], completed: bool, exact: bool) -> tuple[Kill, ...]:
        """What came of all kills. `books` are the charges of each site at the end."""
        last = len(self._rounds) - 1
        quiet = [done.seconds for done in self._rounds if done.hit is None and 0 < done.number < last]
        answered = _sites_by_round(self._run.run.path / "rounds.jsonl")
        return tuple(
            Kill(
                federation=self._run.run.name,
                round=done.number,
                phase=cell[0],
                process=cell[1],
                site=done.site,
                landed=hit.landed,
                seconds=round(done.ended - hit.when, 2),
                delay=round(done.seconds - median(quiet), 2) if quiet else 0.0,
                lost=len(self._stage.names) - answered.get(done.number, 0),
                doubled=sum(doubled(charges, done.number) for charges in books.values()),
                completed=completed,
                exact=exact,
            )
            for done in self._rounds
            if (cell := done.cell) and (hit := done.hit)
        )

    def _round(self, number: int, cell: Cell | None) -> _Round:
        """Wait for a round's end, with a kill in it; it is not over where the run ends before or stands."""
        site = self._stage.names[number % len(self._stage.names)]
        watch = Watch(self._run.run.path, self._stage.site(site), len(self._stage.names))
        began = time.monotonic()
        until, hit = began + _ROUND_SECONDS, None
        if cell is not None:
            aim = Aim(cell[0], cell[1], number)
            hit = strike(aim, watch, Processes(self._stage, self._run, site), self._random, until)
        while (now := watch.journalled()) == (number, False) or now[1]:
            if self._run.standing.state in (*OVER, "failed", "paused") or time.monotonic() > until:
                break
            time.sleep(_POLL_SECONDS)
        return _Round(number, began, time.monotonic(), now[0] > number, cell, site, hit)

    def _tell(self, done: _Round) -> None:
        what = "no kill"
        if done.cell is not None:
            how = "missed" if done.hit is None else "landed" if done.hit.landed else "landed beside"
            what = f"kill -9 of {done.cell[1]} ({done.site}) while {done.cell[0]}: {how}"
        self._say(f"round {done.number}: {done.seconds:.1f} s, {what}")


def _sites_by_round(path: Path) -> dict[int, int]:
    """How many sites' updates are in each round that was journalled."""
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {entry["round"]: len(entry["sites"]) for entry in entries}
