"""What lies on the disks tells the phase of a round, one after the other and no two at once."""

import fcntl
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.benchmarks.kills.phases import PHASES, UNCLEAR, Watch
from tests.simulations.benchmarks.kills.making import RUN, Disks

STEPS: tuple[tuple[str, Callable[[Disks], None]], ...] = (
    ("asked", lambda d: d.note("asked")),
    ("training", lambda d: d.charge()),
    ("sealing", lambda d: d.compute()),
    ("sealed", lambda d: d.seal()),
    ("returning", lambda d: d.note("answered")),
    ("arriving", lambda d: d.arrive(0)),
    ("aggregating", lambda d: d.arrive(1)),
    ("journal", lambda d: d.keep(1, part=True)),
    ("journal", lambda d: d.keep(1)),
)


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


def test_a_round_goes_through_all_phases_in_their_order(disks: Disks) -> None:
    watch = Watch(disks.run, disks.site, 2)
    seen = [watch.look().phase]
    for phase, step in STEPS:
        step(disks)
        seen.append(watch.look().phase)
        assert (seen[-1], watch.look().round) == (phase, 0)
    assert tuple(dict.fromkeys(seen)) == PHASES
    disks.journal(1)
    assert (watch.look().round, watch.look().phase) == (1, "sending")


def test_another_run_and_another_round_tell_nothing(disks: Disks) -> None:
    disks.note("asked", number=1)
    disks.charge()
    other = disks.path / "run-2"
    disks.run.rename(other)
    assert Watch(other, disks.site, 2).look().phase == "sending"


def test_a_ledger_that_is_written_to_makes_the_phase_unclear(disks: Disks) -> None:
    disks.note("asked")
    watch = Watch(disks.run, disks.site, 2)
    with sqlite3.connect(disks.site / "ledger" / "ledger.sqlite", isolation_level=None) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert watch.look().phase == UNCLEAR
        writer.execute("ROLLBACK")
    writer.close()
    assert watch.look().phase == "asked"


def test_looking_leaves_nothing_behind_and_holds_nothing(disks: Disks) -> None:
    disks.note("asked")
    before = {path: path.stat().st_mtime_ns for path in disks.path.rglob("*")}
    Watch(disks.run, disks.site, 2).look()
    assert {path: path.stat().st_mtime_ns for path in disks.path.rglob("*")} == before
    with (disks.site / "log.jsonl").open("rb") as log:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    disks.charge()
    assert RUN in disks.ledger.open_runs()
