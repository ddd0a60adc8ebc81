"""The rows of the aggregation benchmark, and what a measurement is; no time is judged here."""

import json
from pathlib import Path

import numpy as np
import pytest

from medgan_core.errors import MedGANError
from simulations.benchmarks import aggregation as measuring
from simulations.benchmarks.aggregation import METHODS, Aggregation, aggregation, keep, measured


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_measured_in_a_process_of_its_own(method: str) -> None:
    before, peak, speed, by_processor, arrival = measuring._child(f"measured({method!r}, 5, 1)")
    assert 0 < before <= peak
    assert speed > 0
    assert by_processor > 0
    assert (arrival > 0) is (method not in ("numpy", "flower"))


def test_memory_does_not_grow_with_the_number_of_sites() -> None:
    few, many = (measuring._child(f"measured('mean', {sites}, 4)") for sites in (4, 40))
    assert many[1] - many[0] < few[1] - few[0] + 8
    assert few[1] - few[0] < 4 * 4 + 16


def test_sums_load_neither_torch_nor_flower() -> None:
    assert measuring._child("[name in sys.modules for name in ('torch', 'flwr')]") == [False, False]


def test_a_measurement_runs_here_too() -> None:
    assert all(np.isfinite(measured("mean", 3, 1)))


def test_a_failure_is_named() -> None:
    with pytest.raises(MedGANError, match="KeyError: 'nothing'"):
        measuring._child("measured('nothing', 1, 1)")


def test_figures_are_medians_over_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    speeds = iter([1.0, 9.0, 2.0] * len(METHODS) + [4.0] * 3)
    monkeypatch.setattr(measuring, "_child", lambda call: [50.0, 100.0, next(speeds), 3.0, 0.5])
    rows = aggregation((5, 1), ((4, 1),), repeats=3)
    assert [row.method for row in rows] == [*METHODS, "mean"]
    assert (rows[-1].sites, rows[-1].before, rows[-1].peak, rows[-1].arrival) == (4, 50, 100, 0.5)
    keep(tmp_path / "docs" / "a.json", rows)
    told = json.loads((tmp_path / "docs" / "a.json").read_text())
    assert Aggregation(**told["rows"][0]) == rows[0]
    assert told["cores"] >= 1
