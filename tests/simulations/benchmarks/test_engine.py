"""The rows of the benchmark, and its command; no time is judged here."""

import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from medgan_core.errors import MedGANError
from medgan_core.memory import SETTINGS
from simulations.benchmarks import engine
from simulations.benchmarks.engine import Memory, Speed, memory, peak, show, speed, times, write
from simulations.benchmarks.steps import METHODS


def test_speed_is_in_milliseconds_and_beside_the_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def child(call: str, tuned: bool = True) -> dict[str, list[list[float]]]:
        if not tuned:
            assert call == "times(8, 3, ['engine'])"
            return {"engine": [[0.5, 0.6]]}
        return {
            name: [[0.1 if name == "plain" else 0.2, 0.3], [0.4, 0.5], [0.9, 0.7]]
            for name in METHODS
            if repr(name) in call
        }

    monkeypatch.setattr(engine, "_child", child)
    rows = speed(batches=(8,), rounds=3)
    assert [row.method for row in rows] == [*METHODS, "engine-default-malloc"]
    assert (rows[-1].processor, rows[-1].ratio) == pytest.approx((500, 1.25))
    assert isinstance(rows[1], Speed)
    assert list(asdict(rows[1]).values()) == ["opacus", 8, *map(pytest.approx, (400, 200, 500, 300, 1, 2))]


def test_memory_is_beside_the_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_child", lambda call: [100.0, 200.0 if "'plain'" in call else 500.0])
    rows = memory(batches=(8,))
    assert rows[0] == Memory("plain", 8, 100, 200, 1)
    assert rows[1] == Memory("opacus", 8, 100, 500, 2.5)


def test_every_round_has_a_time_and_a_process_has_a_peak() -> None:
    found = times(2, 2, ["plain", "engine"])
    assert [len(every) for every in found.values()] == [2, 2]
    assert all(seconds > 0 for every in found.values() for pair in every for seconds in pair)
    before, most = peak(2, 1, "engine")
    assert 0 < before <= most


def test_a_fresh_process_answers_and_its_failure_is_named() -> None:
    assert engine._child("[1, 2]") == [1, 2]
    with pytest.raises(MedGANError, match="KeyError: 'nothing'"):
        engine._child("times(2, 1, ['nothing'])")


@pytest.mark.parametrize("tuned", [True, False])
def test_a_process_has_the_memory_settings_or_none_of_them(
    tuned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SETTINGS:
        monkeypatch.setenv(name, "1")
    found = engine._child(f"[os.environ.get(name) for name in {list(SETTINGS)}]", tuned)
    assert found == (list(SETTINGS.values()) if tuned else [None] * len(SETTINGS))


def test_rows_are_printed_and_kept(tmp_path: Path) -> None:
    rows = [Memory("plain", 8, 100.2, 200.7, 1.0)]
    text = StringIO()
    show(rows, Console(file=text, width=100))
    assert all(part in text.getvalue() for part in ("method", "plain", "201", "1.00"))
    write(tmp_path / "new" / "memory.json", rows)
    kept = json.loads((tmp_path / "new" / "memory.json").read_text())
    assert kept["rows"] == [{"method": "plain", "batch": 8, "before": 100.2, "peak": 200.7, "ratio": 1.0}]
