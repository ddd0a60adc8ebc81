"""The table of the README: medians over seeds, one row for each study and setting."""

import json
from pathlib import Path
from typing import Any

import pytest

from medgan_core.errors import ConfigError, IntegrityError
from simulations import bench as module
from simulations.bench import add_row, bench, table
from simulations.hospitals import Launch
from simulations.progress import Silent
from tests.simulations.making import study_file


def row(study: str, auc: float, **other: Any) -> dict[str, Any]:
    figures = {"accuracy": 0.5, "balanced_accuracy": 0.5, "auc": auc}
    return {
        "study": study,
        "set": [],
        "privacy": "dp",
        "unit": "patient",
        "epsilon": 9.99,
        "secure_sum": False,
        "seconds": 12,
        "seeds": [0],
        "runs": [figures],
        "train_on_synthetic": figures,
        "train_on_real": figures | {"auc": 0.981},
    } | other


def test_a_row_replaces_the_one_of_the_same_study_and_setting(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for new in (row("a", 0.1), row("b", 0.2), row("a", 0.3), row("a", 0.4, set=["rounds=0"])):
        add_row(path, new)
    for number, order in enumerate((["seed=1", "rounds=2"], ["rounds=2", "seed=1"])):
        add_row(path, row("b", number, set=order))
    found = [(r["study"], r["set"], r["train_on_synthetic"]["auc"]) for r in json.loads(path.read_text())]
    assert sorted(found, key=str) == [
        ("a", ["rounds=0"], 0.4),
        ("a", [], 0.3),
        ("b", ["rounds=2", "seed=1"], 1),
        ("b", [], 0.2),
    ]


def test_damaged_results_are_named_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("{")
    with pytest.raises(IntegrityError, match=r"results\.json"):
        add_row(path, row("a", 0.1))
    assert path.read_text() == "{"


def test_the_table_says_epsilon_and_unit_or_not_private() -> None:
    rows = [row("a", 0.9441), row("b", 0.97, privacy="NOT PRIVATE", epsilon="inf", unit="image")]
    rows += [row("c", 0.95, epsilon=1.0, secure_sum=True)]
    lines = table(rows).splitlines()
    assert lines[2] == "| a | ε = 10.0 (patient) | 0.500 | 0.944 | 0.500 | 0.981 | 12 | 1 |"
    assert lines[3].startswith("| b | **not private** | 0.500 | 0.970 |")
    assert lines[4].startswith("| c | ε = 1.0 (patient, secure sum) | 0.500 | 0.950 |")


def test_a_row_has_the_medians_over_seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    aucs = {0: 0.9, 1: 0.7, 2: 0.8}

    def fake(study: Any, launch: Launch, progress: Silent) -> dict[str, Any]:
        figures = {"accuracy": 0.5, "balanced_accuracy": 0.5, "auc": aucs[study.seed]}
        public = {"train_on_synthetic": figures, "train_on_real": figures}
        return {"privacy": "dp", "unit": "image", "epsilon": 1.0, "seconds": study.seed, "public": public}

    monkeypatch.setattr(module, "_one", fake)
    made = bench(str(study_file(tmp_path)), ["rounds=0"], range(3), Launch(), Silent())
    assert made["train_on_synthetic"]["auc"] == 0.8
    assert [run["auc"] for run in made["runs"]] == [0.9, 0.7, 0.8]
    assert (made["seconds"], made["seeds"], made["set"]) == (1, [0, 1, 2], ["rounds=0"])


def test_a_bench_runs_the_study_and_keeps_no_run(data: Path, tmp_path: Path) -> None:
    study = study_file(tmp_path, rounds=0, evaluation__reports=True)
    made = bench(str(study), [], [0], Launch(data=str(data), public=True), Silent())
    assert (made["unit"], made["secure_sum"]) == ("patient", False)
    assert 0 <= made["train_on_real"]["accuracy"] <= 1
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_data_that_are_not_public_make_no_row(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path = 'tiny\.npz': expected a public set"):
        bench(str(study_file(tmp_path, rounds=0)), [], [0], Launch(data=str(data)), Silent())
