"""Marks of a coordinator become times of rounds, and the benchmark's app for nodes stays thin."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.diary import Diary
from medgan_core.envelope import Envelope
from medgan_core.errors import RoundError
from medgan_core.messages import Arrays
from medgan_core.record import read_json
from medgan_core.wire import envelope_from_records, envelope_to_records
from simulations.benchmarks.echo_node import changed
from simulations.benchmarks.overhead import Times, keep, large_study, sizes, times, told, work_of
from tests.scenarios.federating import settled


def mark(what: str, number: int, when: float) -> dict[str, Any]:
    return {"what": what, "round": number, "when": when}


MARKS = [
    mark("begun", 0, 0.0),
    mark("answered", 0, 4.0),
    mark("begun", 1, 5.0),
    mark("prepared", 1, 7.0),
    mark("echoed", 1, 9.0),
    mark("answered", 1, 20.0),
    mark("answered", 1, 21.0),  # the second site
    mark("begun", 2, 21.5),
    mark("prepared", 2, 23.0),
    mark("echoed", 2, 27.0),
    mark("answered", 2, 32.0),
    mark("begun", 3, 36.0),
    mark("prepared", 3, 38.0),
    mark("echoed", 3, 42.0),
    mark("answered", 3, 47.0),
    mark("begun", 4, 48.0),
    mark("prepared", 4, 49.0),
    mark("echoed", 4, 50.0),  # and no answer came
    mark("begun", 5, 60.0),
    mark("answered", 5, 61.0),
]


def test_a_round_and_its_echo_are_timed_from_the_last_reply_before_to_their_own() -> None:
    second, third = times(MARKS, {1: 2.0, 2: 0.75, 3: 0.75})
    assert second == Times(2, echo=4.0, ours=5.0, work=0.75, between=0.5)
    assert second.overhead == 0.25
    assert third == Times(3, echo=4.0, ours=5.0, work=0.75, between=4.0)
    assert third.overhead == 1.25  # a second of the coordinator's is longer than a SuperNode's sleep


def test_the_figures_are_medians_with_every_round_beside_them(tmp_path: Path) -> None:
    rounds = [Times(n, 4.0, 5.0 + n, 0.5, 0.1) for n in (2, 3, 10)]
    body = told(rounds, 20_000_000, 2)
    assert body["median"] == {"echo": 4.0, "ours": 8.0, "work": 0.5, "between": 0.1, "overhead": 3.5}
    assert [row["overhead"] for row in body["rounds"]] == [2.5, 3.5, 10.5]
    keep(tmp_path / "new" / "overhead.json", body)
    assert read_json(tmp_path / "new" / "overhead.json") == body
    with pytest.raises(RoundError, match="more rounds"):
        told([], 1, 2)


def test_work_and_size_come_from_the_site_s_own_log(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "log.jsonl")
    diary.add("asked", run="run", round=1, phase="train")
    diary.add("answered", run="run", round=1, phase="train", bytes=20, seconds=0.5)
    diary.add("answered", run="run", round=2, phase="gate", bytes=30, seconds=9.0)
    diary.add("answered", run="other", round=1, phase="train", bytes=40, seconds=7.0)
    assert work_of(tmp_path, "run") == {1: 0.5}
    assert sizes(tmp_path, "run") == [20, 30]


def test_the_payload_is_of_20_megabytes() -> None:
    from medgan_core.gan.tasks import make_task
    from medgan_core.tensors import weights_of

    study = large_study(3)
    size = study.data.image_size
    task = make_task(study, (1, size, size), ("a", "b"))
    networks = (weights_of(task.make_generator()), weights_of(task.make_discriminator()))
    assert 19e6 < sum(array.nbytes for weights in networks for array in weights.values()) < 22e6


def test_an_echo_differs_from_what_came_in_every_array_and_in_nothing_else() -> None:
    arrays: Arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(1)}
    records = envelope_to_records(Envelope({"run": "run"}, {"generator": arrays}))
    there = changed(records, 0, 3)
    back = envelope_from_records(changed(there, 1, 7))
    assert back.head == {"run": "run"}
    for name, array in arrays.items():
        assert back.groups["generator"][name].dtype == array.dtype
        assert (back.groups["generator"][name] != array).sum() == 1
    assert there.object_id != records.object_id
    assert changed(there, 0, 3).object_id == records.object_id


def test_the_echoing_app_loads_nothing_of_ours_before_it_is_asked() -> None:
    code = (
        "import sys, simulations.benchmarks.echo_node as e; assert e.app; "
        "print(*(name for name in ('torch', 'client.channel', 'grpc._channel') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=settled(), check=True
    )
    assert "torch" not in done.stdout
    assert "client.channel" not in done.stdout
