"""The release check of three generators: one copies its patients, one is private, one nobody can judge."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from simulations.shipped import study_path
from tests.medgan_core.data.making import shared
from tests.scenarios.test_release import call

pytestmark = pytest.mark.scenario
SMALL = (
    "one_shot.iterations=500",
    "one_shot.frequencies=500",
    "training.generator_width=24",
    "evaluation.synthetic_images=400",
    "evaluation.reports=false",
)
ONCE = ("strategy=one_shot", "privacy.epsilon=1", "privacy.secure_sum=true")
COPYING = (
    "privacy.mode=off",
    "strategy=refine",
    "rounds=1",
    "sites.count=1",
    "sites.nominal_patients=100",
    "privacy.sampling_rate=0.32",
    "training.batch=32",
    "training.discriminator_width=32",
    "training.discriminator_steps=2000",
    "training.discriminator_learning_rate=0.0005",
    "training.generator_learning_rate=0.001",
    "training.final_learning_rate=1.0",
    "training.spatial_noise=0.0",
    "training.anchor_weight=0",
    "training.ema_decay=0",
    "evaluation.gate=false",
)


def few(folder: Path, patients: int) -> tuple[str, str]:
    """So many X-rays of both classes, each of a patient of its own: the settings that name the set."""
    with np.load(shared("pneumoniamnist") / "pneumoniamnist" / "pneumoniamnist.npz") as archive:
        spread = np.linspace(0, len(archive["train_images"]) - 1, patients).astype(int)
        images, labels = archive["train_images"][spread], archive["train_labels"][spread]
    np.savez(folder / "few.npz", images=images, labels=labels)
    with (folder / "patients.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["index", "patient_key"])
        rows.writerows((number, f"patient-{number}") for number in range(patients))
    return f"data.path={folder / 'few.npz'}", f"data.patients={folder / 'patients.csv'}:patient_key"


def run(folder: Path, *settings: str) -> Path:
    """The folder of a run of the pneumonia study with these settings."""
    asked = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    data = shared("pneumoniamnist")
    call("medgan-sim", "run", study_path("pneumonia"), "--data", data, "--out", folder / "runs", *asked)
    [made] = (folder / "runs").iterdir()
    return made


def verdict(run: Path) -> str:
    """What the card of the checked release says."""
    told: str = json.loads((run / "release" / "card.json").read_text())["check"]["verdict"]
    return told


def test_a_generator_that_copies_its_hundred_patients_fails(tmp_path: Path) -> None:
    copied = run(tmp_path, *COPYING, *few(tmp_path, 118))
    said = call("medgan-sim", "release-check", copied, code=1)
    assert verdict(copied) == "fail"
    assert "tells patients who were trained on from others" in " ".join(said.split())
    assert "failed" in call("medgan", "verify", copied / "release")


def test_a_private_generator_of_many_patients_passes(tmp_path: Path) -> None:
    private = run(tmp_path, *ONCE)
    call("medgan-sim", "release-check", private)
    assert verdict(private) == "pass"
    assert "says pass" in call("medgan", "verify", private / "release")


def test_with_too_few_patients_nobody_can_tell(tmp_path: Path) -> None:
    unknown = run(tmp_path, *ONCE, "sites.nominal_patients=100", *few(tmp_path, 350))
    assert "the check cannot tell" in call("medgan-sim", "release-check", unknown, code=3)
    assert verdict(unknown) == "inconclusive"
