"""The shipped studies on the published sets, where they are; and the error where they are not."""

import json
import os
from pathlib import Path

import pytest

from tests.simulations.making import call

pytestmark = pytest.mark.scenario
DATA = Path(os.environ.get("MEDGAN_DATA") or Path(__file__).parents[3] / "shared" / "data")
FEW = ("rounds=0", "one_shot.iterations=5", "one_shot.frequencies=32", "evaluation.synthetic_images=64")
QUICK = [part for setting in FEW for part in ("--set", setting)]


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / name).exists(), reason=f"{name} is not on this machine")


def finished(study: str, out: Path, *settings: str) -> Path:
    more = [part for setting in settings for part in ("--set", setting)]
    done = call("medgan-sim", "run", study, "--data", DATA, "--out", out, *QUICK, *more, timeout=900)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


@needs("pneumoniamnist")
def test_a_one_shot_study_of_children_s_lungs_protects_patients(tmp_path: Path) -> None:
    run = finished("pneumonia", tmp_path, "privacy.epsilon=10")
    told = json.loads((run / "metrics.json").read_text())
    assert told["unit"] == "patient"
    assert 9.9 < told["epsilon"] <= 10
    assert told["public"]["train_on_real"]["auc"] > 0.95  # the published files, so figures may be told
    assert call("medgan", "verify", run / "release").returncode == 0


@needs("mnist")
def test_a_set_without_patients_says_image_on_every_artefact(tmp_path: Path) -> None:
    run = finished("mnist", tmp_path, "evaluation.reports=false", "sites.count=2")
    assert json.loads((run / "metrics.json").read_text())["unit"] == "image"
    assert json.loads((run / "release" / "card.json").read_text())["unit"] == "image"
    for text in (run / "release" / "card.md", run / "report.html"):
        assert "image" in text.read_text()


@pytest.mark.parametrize(
    ("study", "file", "address"),
    [
        ("pneumonia", "pneumoniamnist/pneumoniamnist.npz", "https://"),
        ("mnist", "mnist", "https://"),
        ("mednist", "mednist_subset", "https://"),
        ("chestxray64", "kermany_cxr_224", "https://"),
    ],
)
def test_a_missing_set_names_file_address_and_place(
    tmp_path: Path, study: str, file: str, address: str
) -> None:
    done = call("medgan-sim", "run", study, "--data", tmp_path, "--out", tmp_path / "runs")
    assert (done.returncode, done.stdout) == (2, "")
    for words in (f"{file} is missing", address, f"<data root>/{file}"):
        assert words in done.stderr
    assert str(tmp_path) not in done.stderr
    assert not list((tmp_path / "runs").iterdir())
