"""One federation of real processes, and one kill -9 in each phase of a round, spread over the processes."""

from random import Random

import pytest

from simulations.benchmarks.kills.measure import play, small_study
from simulations.benchmarks.kills.phases import PHASES
from simulations.benchmarks.kills.rows import wanted
from simulations.benchmarks.kills.strikes import PROCESSES

pytestmark = pytest.mark.scenario


def test_a_kill_in_each_phase_of_a_round_loses_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    told: list[str] = []
    out = tmp_path_factory.mktemp("k")  # a socket's path is short
    kills = play(small_study(["rounds=12"]), out, wanted(len(PHASES)), Random(0), told.append)
    landed = [kill for kill in kills if kill.landed]
    assert {kill.phase for kill in landed} == set(PHASES), "\n".join(told)
    assert {kill.process for kill in landed} == set(PROCESSES)
    assert all(kill.completed and kill.exact for kill in kills), "\n".join(told)
    assert sum(kill.lost for kill in kills) == sum(kill.doubled for kill in kills) == 0
