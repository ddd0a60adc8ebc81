"""A hospital's machine may die at any moment; its ledger may not forget a charge, nor make one twice."""

import random
import time
from itertools import count
from pathlib import Path

import pytest

from tests.medgan_core.privacy import ledger_worker

pytestmark = pytest.mark.scenario
ROUNDS = 3


def test_killed_at_every_statement(tmp_path: Path) -> None:
    for moment in count(1):
        folder = tmp_path / str(moment)
        folder.mkdir()
        if not ledger_worker.die_and_resume(folder, moment, ROUNDS):
            break
    assert moment > 40  # the run has many statements, so the loop did kill


@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_time(tmp_path: Path, seed: int) -> None:
    with ledger_worker.start(tmp_path, "a", ROUNDS) as process:
        time.sleep(random.Random(seed).uniform(0.08, 0.25))
        process.kill()
    if (tmp_path / "ledger.db").exists():
        ledger_worker.check_and_resume(tmp_path, ROUNDS)


def test_killed_again_and_again(tmp_path: Path) -> None:
    """Each life dies later than the one before; the last one finishes."""
    lives = [ledger_worker.work(tmp_path, "a", ROUNDS, moment) for moment in range(5, 200, 6)]
    assert not lives[0]
    assert lives[-1]
    assert ledger_worker.charged(tmp_path) == [f"a/{number}" for number in range(ROUNDS)]
    assert set(ledger_worker.touches(tmp_path)) == set(ledger_worker.charged(tmp_path))


def test_three_processes_share_one_ledger_while_one_dies(tmp_path: Path) -> None:
    runs = {"a": 0, "b": 0, "c": 60}
    processes = [ledger_worker.start(tmp_path, run, 10, moment) for run, moment in runs.items()]
    codes = [process.wait(timeout=120) for process in processes]
    assert codes[:2] == [0, 0]
    assert codes[2] != 0
    assert set(ledger_worker.touches(tmp_path)) <= set(ledger_worker.charged(tmp_path))
    assert ledger_worker.work(tmp_path, "c", 10)
    plan = sorted(f"{run}/{number}" for run in runs for number in range(10))
    assert sorted(ledger_worker.charged(tmp_path)) == plan
