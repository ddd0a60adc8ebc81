"""What a finished run says to whom: public figures, a site's own, and what was spent."""

import json
import math
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan_core.evaluate.gate import Verdict
from medgan_core.evaluate.histogram import read_histogram
from medgan_core.evaluate.report import trained_scores
from medgan_core.gan.task import synthesis_of
from medgan_core.gan.tasks import make_task
from medgan_core.record import RunFolder
from medgan_core.release.bundle import Release
from medgan_core.seeds import Seeds
from medgan_core.tensors import load
from server.finish import verdict
from server.state import FederationState, draw
from simulations.course import run_study
from simulations.hospitals import Launch, open_sites, pooled
from tests.simulations.making import tiny_study

REAL_FIGURES = ("train_on_real", "train_on_synthetic", "fidelity", "memorization")


@pytest.fixture(scope="module")
def declared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run without privacy on data that a person declared public."""
    study = tiny_study(evaluation__reports=True, privacy__mode="off")
    return run_study(study, tmp_path_factory.mktemp("public"), Launch(data=str(data), public=True))


def texts(folder: Path) -> str:
    """All that a run's folder says in text, the sites' own folders excepted."""
    files = [
        path for path in folder.rglob("*") if path.suffix in {".json", ".jsonl", ".md", ".html", ".toml"}
    ]
    return "".join(path.read_text() for path in files if "sites" not in path.relative_to(folder).parts)


def test_figures_of_data_that_are_not_public_stay_in_the_sites_own_reports(finished: RunFolder) -> None:
    told = json.loads((finished.path / "metrics.json").read_text())
    assert "public" not in told
    assert set(told["released"]) == {"accuracy", "balanced_accuracy", "auc"}
    plan = Release.open(finished.release).card.plan
    deviation = plan.evaluation_noise_multiplier * math.sqrt(2)
    read = asdict(read_histogram(torch.tensor(told["histogram"]), deviation))
    assert read == pytest.approx(
        {name: float(value) for name, value in told["released"].items()}, abs=1e-3, nan_ok=True
    )
    everything = texts(finished.path)
    for site in ("site-1", "site-2"):
        report = json.loads((finished.path / "sites" / site / "report.json").read_text())
        assert set(REAL_FIGURES) <= set(report)
        figures = [value for part in report.values() for value in part.values() if isinstance(value, float)]
        assert [value for value in figures if len(str(value)) > 8 and str(value) in everything] == []
    assert not any(f'"{name}"' in everything for name in REAL_FIGURES)


def test_figures_of_declared_data_are_in_metrics_and_no_site_has_its_own(declared: RunFolder) -> None:
    told = json.loads((declared.path / "metrics.json").read_text())
    assert set(REAL_FIGURES) <= set(told["public"])
    assert not list(declared.path.glob("sites/*/report.json"))


def test_the_gate_s_verdict_is_told_with_its_noise_and_the_exact_figures_stay_away(
    finished: RunFolder,
) -> None:
    told = json.loads((finished.path / "metrics.json").read_text())
    gate, kept = told["gate"], finished.latest_state()
    assert kept is not None
    assert set(gate) == {field.name for field in fields(Verdict)} | {"refined_accuracy"}
    assert gate["kept"] == ("refined" if gate["gain"] > 0 else "one_shot")
    missed = 0.0 if gate["kept"] == "refined" else gate["gain"]
    accuracy = float(told["released"]["accuracy"]) + missed
    assert float(gate["refined_accuracy"]) == pytest.approx(accuracy, nan_ok=True)
    assert 0 < gate["noise"] < gate["resolved"]
    assert 0 < gate["error_rate"] <= 0.5
    groups = kept[0]
    assert all(
        np.array_equal(array, groups[f"release_{gate['kept']}"][name])
        for name, array in groups["release"].items()
    )
    assert "candidates" not in texts(finished.path)
    card = json.loads((finished.release / "card.json").read_text())
    assert card["metrics"]["gate"] == gate
    assert "Did the adversarial rounds help?" in (finished.path / "report.html").read_text()


def public_scores(run: RunFolder, data: Path, name: str) -> dict[str, float]:
    """What a classifier of one candidate's images reaches on all held-out ones."""
    study, kept = run.study(), run.latest_state()
    assert kept is not None
    sites = open_sites(study, run, Launch(data=str(data), public=True))
    card, seeds = sites[0].training.card, Seeds(study.seed)
    task = synthesis_of(make_task(study, card.image_shape, card.classes))
    generator = task.make_generator()
    load(generator, kept[0][f"release_{name}"])
    images, labels = draw(
        task, generator.eval(), study.evaluation.synthetic_images, seeds.child("evaluation")
    )
    _, held_out = pooled(sites, card)
    return asdict(trained_scores(images, labels, held_out, seed=seeds.child("report").integer()))


def test_of_public_data_both_generators_are_told_whichever_was_kept(declared: RunFolder, data: Path) -> None:
    told = json.loads((declared.path / "metrics.json").read_text())
    candidates = told["public"]["candidates"]
    assert set(candidates) == {"one_shot", "refined"}
    kept = told["gate"]["kept"]
    assert candidates[kept] == told["public"]["train_on_synthetic"]
    [other] = set(candidates) - {kept}
    assert candidates[other] == public_scores(declared, data, other)
    assert (told["gate"]["noise"], told["gate"]["error_rate"]) == (0, 0)


@pytest.mark.parametrize(("kept", "refined"), [("refined", 0.8), ("one_shot", 0.77)])
def test_the_refined_generator_s_accuracy_is_told_whether_it_was_kept_or_not(
    kept: str, refined: float
) -> None:
    gate = {"round": 2, "phase": "gate", "sites": ["a"], "kept": kept, "gain": -0.03}
    state = FederationState("run", ("a",), 4, {}, history=(gate, {"phase": "evaluate", "accuracy": 0.8}))
    assert verdict(state) == {"kept": kept, "gain": -0.03, "refined_accuracy": pytest.approx(refined)}


def test_without_a_gate_nothing_is_said_of_one(data: Path, tmp_path: Path) -> None:
    run = run_study(tiny_study(evaluation__gate=False), tmp_path, Launch(data=str(data)))
    assert "gate" not in json.loads((run.path / "metrics.json").read_text())
    assert "Did the adversarial rounds help?" not in (run.path / "report.html").read_text()
    history = (run.path / "rounds.jsonl").read_text().splitlines()
    assert "gate" not in [json.loads(line)["phase"] for line in history]


def test_a_run_without_privacy_says_so_on_everything(declared: RunFolder) -> None:
    for name in ("metrics.json", "report.html", "release/card.json", "release/card.md"):
        assert "NOT PRIVATE" in (declared.path / name).read_text(), name
    told = json.loads((declared.path / "metrics.json").read_text())
    assert told["epsilon"] == "inf"
    assert [site["account"] for site in told["sites"]] == ["inf", "inf"]
    assert '"inf"' in (declared.path / "ledger.json").read_text()


def test_each_site_s_spending_is_told_by_account(finished: RunFolder) -> None:
    told = json.loads((finished.path / "metrics.json").read_text())
    assert [site["site"] for site in told["sites"]] == ["site-1", "site-2"]
    for site in told["sites"]:
        assert told["epsilon"] == pytest.approx(max(site["training"], site["held_out"]))
        assert site["account"] == pytest.approx(told["epsilon"])


def test_a_study_that_wants_no_reports_has_none(data: Path, tmp_path: Path) -> None:
    run = run_study(tiny_study(rounds=0), tmp_path, Launch(data=str(data), public=True))
    assert "public" not in json.loads((run.path / "metrics.json").read_text())
    assert not list(run.path.glob("sites/*/report.json"))
    assert (run.release / "manifest.json").is_file()
