"""What a run of another task tells: of public images all, of others nothing but in a site's own report."""

import json
from functools import partial
from pathlib import Path

import pytest

from medgan_core.evaluate.augmentation import augmented_classifier, gains
from medgan_core.record import RunFolder
from simulations import explaining, outcome
from simulations.course import run_study
from simulations.hospitals import Launch
from tests.simulations.making import tiny_study

ANOMALY = {"task": "anomaly", "mapping": {"normal": "normal"}, "evaluation__reports": True}
FIGURES = {"accuracy", "balanced_accuracy", "auc"}


def play(data: Path, folder: Path, *, public: bool, **changes: object) -> RunFolder:
    study = tiny_study(privacy__mode="off", strategy="auto", **changes)
    return run_study(study, folder, Launch(data=str(data), public=public))


@pytest.fixture(scope="module")
def declared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return play(data, tmp_path_factory.mktemp("public"), public=True, **ANOMALY)


def told(run: RunFolder) -> dict[str, dict[str, object]]:
    read: dict[str, dict[str, object]] = json.loads((run.path / "metrics.json").read_text())
    return read


def test_of_public_images_the_exact_figures_and_both_pictures_are_told(declared: RunFolder) -> None:
    assert set(told(declared)["public"]) >= {"scores"}
    scores = told(declared)["public"]["scores"]
    assert isinstance(scores, dict)
    assert set(scores) >= FIGURES
    assert 0 <= scores["auc"] <= 1
    for picture in ("samples.png", "explained.png"):
        assert (declared.path / picture).read_bytes().startswith(b"\x89PNG")
    assert not list(declared.path.glob("sites/*/report.json"))


def test_of_other_images_a_site_s_own_report_has_them_and_there_is_no_picture(
    data: Path, tmp_path: Path
) -> None:
    run = play(data, tmp_path, public=False, **ANOMALY)
    assert "public" not in told(run)
    reports = sorted(run.path.glob("sites/*/report.json"))
    assert [report.parent.name for report in reports] == ["site-1", "site-2"]
    assert all(set(json.loads(report.read_text())) >= FIGURES for report in reports)
    assert not list(run.path.glob("*ed.png"))
    assert not list(run.path.glob("samples*"))


def test_augmentation_tells_its_gain_and_what_its_classifier_looks_at(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, function in (
        (explaining, "augmented_classifier", augmented_classifier),
        (outcome, "gains", gains),
    ):
        monkeypatch.setattr(module, name, partial(function, steps=2))
    run = play(data, tmp_path, public=True, task="augmentation", evaluation__reports=True)
    gained = told(run)["public"]["augmentation"]
    assert isinstance(gained, dict)
    [(share, figures)] = gained.items()
    assert share == "10%"
    assert {"auc", "balanced_accuracy"} <= set(figures)
    assert (run.path / "explained.png").read_bytes().startswith(b"\x89PNG")
