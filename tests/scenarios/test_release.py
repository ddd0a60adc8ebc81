"""A release goes from hand to hand: checked, exported, tampered with, compared and called back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.federating import ROOT, settled
from tests.simulations.making import study_file, write_set

pytestmark = pytest.mark.scenario
PROGRAMS = {"medgan": "medgan_core.cli", "medgan-sim": "simulations.cli"}


def call(program: str, *words: object, code: int = 0) -> str:
    """What a command says on both streams; it must end with this code."""
    program_text = f"from {PROGRAMS[program]} import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program_text, *map(str, words)],
        env=settled(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def trained(folder: Path, *settings: str) -> Path:
    """The folder of a run of the tiny study."""
    study, data = study_file(folder), write_set(folder / "data")
    asked = [part for setting in settings for part in ("--set", setting)]
    call("medgan-sim", "run", study, "--data", data, "--out", folder / "runs", *asked)
    return max((folder / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)


def test_a_release_from_its_making_to_its_recall(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = trained(tmp_path / "old", "release.valid_days=400", 'release.contact="privacy@clinic.example"')
    new = trained(tmp_path / "new", "privacy.noise_multiplier=5.0")

    keys, release = old / "trust.keys", old / "release"
    assert "the coordinator simulation, whom you trust" in call("medgan", "verify", release, "--trust", keys)
    assert "integrity only: epsilon" in call("medgan", "verify", release)
    assert "its key of site site-1" in call("medgan", "verify", new / "release", "--trust", keys, code=1)
    assert "until" in call("medgan", "verify", release, "--at", "2999-01-01", code=1)
    assert "privacy@clinic.example" in call("medgan", "info", release)

    told = {d["name"]: d for d in json.loads(call("medgan", "diff", release, new / "release", "--json"))}
    assert told["privacy.noise_multiplier"]["second"] == 5.0
    assert told["site-1.epsilon_training"]["first"] > told["site-1.epsilon_training"]["second"]
    assert told["relative distance"]["second"] > 0

    forged = tmp_path / "forged"
    subprocess.run(["cp", "-r", release, forged], check=True)
    for name in ("generator.safetensors", "generator.json", "card.json", "card.md", "manifest.json"):
        (forged / name).write_bytes((new / "release" / name).read_bytes())
    for path in (forged / "configs").iterdir():
        path.write_bytes((new / "release" / "configs" / path.name).read_bytes())
    call("medgan", "verify", forged, "--trust", keys, code=1)

    listed = tmp_path / "recalls.json"
    reason = ("--reason", "a patient withdrew", "--key", old / "release.key", "--recalls", listed)
    call("medgan", "recall", release, *reason)
    said = call("medgan", "verify", release, "--trust", keys, "--recalls", listed, code=1)
    assert "a patient withdrew" in said
    call("medgan", "recall", new / "release", *reason[:3], new / "release.key", *reason[4:], code=2)


def test_an_export_is_drawn_from_by_monai_alone(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the package onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")
    run, bundle = trained(tmp_path), tmp_path / "bundle"
    call("medgan", "export", run / "release", bundle, "--to", "monai")
    code = (
        "import sys\nsys.modules['medgan_core'] = None\nfrom monai.bundle import run\n"
        "run(config_file='configs/inference.json', workflow_type=None, number=4)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=bundle,
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "synthetic.npz").is_file()
