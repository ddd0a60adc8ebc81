"""ONNX and MONAI bundles draw what torch draws, to 1e-4."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medgan_core.errors import InputError
from medgan_core.release.bundle import Release
from medgan_core.release.ports import Applied, ports
from medgan_core.release.to_monai import write_bundle
from medgan_core.release.to_onnx import onnx_bytes, write_onnx
from tests.medgan_core.release.making import CARD, build
from tests.medgan_core.release.monai import run_bundle

onnxruntime = pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")
pytest.importorskip("onnx", reason="the package onnx is not installed")
CLOSE = 1e-4
RGB = replace(CARD, image_shape=(3, 32, 32))
PAIRS = replace(CARD, image_shape=(2, 32, 32))
KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "synthesis": ({}, CARD),
    "colour without maps": ({"training.spatial_noise": 0.0, "data.image_size": 32, "data.channels": 3}, RGB),
    "segmentation": ({"task": "segmentation"}, PAIRS),
    "restoration": ({"task": "restoration"}, PAIRS),
    "translation": ({"task": "translation"}, PAIRS),
    "anomaly": ({"task": "anomaly"}, PAIRS),
    "translation unpaired": ({"task": "translation", "mapping.paired": False}, PAIRS),
}


def _release(folder: Path, kind: str) -> Release:
    changes, card = KINDS[kind]
    if "task" in changes:
        changes = {
            "data.image_size": 32,
            "mapping.width": 4,
            "evaluation.gate": False,
        } | changes
    return build(folder / "release", changes, card)


def _feed(release: Release, count: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    return {
        name: random.integers(0, 2, count)
        if name == "labels"
        else random.standard_normal((count, *shape)).astype(np.float32)
        for name, shape in ports(release.facts.make_task()).inputs.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_those_of_torch(tmp_path: Path, kind: str) -> None:
    release = _release(tmp_path, kind)
    write_onnx(release, tmp_path / "deep" / "generator.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "deep" / "generator.onnx", providers=["CPUExecutionProvider"]
    )
    network = Applied(release.facts.make_task(), release.generator()).eval()
    for count in (1, 7):  # neither is that of the trace
        feed = _feed(release, count)
        [drawn] = session.run(["pred"], feed)
        with torch.no_grad():
            expected = network(*(torch.from_numpy(array) for array in feed.values())).numpy()
        assert drawn.shape == (count, *ports(release.facts.make_task()).output)
        assert np.abs(drawn - expected).max() < CLOSE
        assert expected.std() > 0


def test_the_model_says_what_its_card_says(release: Release, public_folder: Path) -> None:
    session = onnxruntime.InferenceSession(onnx_bytes(release), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert told["medgan.privacy"] == "dp"
    assert told["medgan.generator_sha256"] == release.card.generator_sha256
    assert json.loads(told["medgan.classes"]) == ["normal", "pneumonia"]
    assert "Diagnosis" in told["medgan.forbidden_use"]
    open_one = onnxruntime.InferenceSession(onnx_bytes(Release.open(public_folder)))
    assert open_one.get_modelmeta().custom_metadata_map["medgan.privacy"] == "NOT PRIVATE"


def test_a_bundle_runs_without_medgan(tmp_path: Path, release: Release) -> None:
    out = tmp_path / "bundle"
    write_bundle(release, out)
    config = (out / "configs" / "inference.json").read_text()
    assert "medgan_core" not in config
    run_bundle(out, number=40)
    with np.load(tmp_path / "synthetic.npz") as drawn:
        assert drawn["images"].shape == (40, 1, 28, 28)
        assert np.abs(drawn["images"]).max() <= 1
        assert 10 < drawn["labels"].sum() < 40  # 70 % of the card's
        assert drawn["privacy"] == "dp"
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == {"configs/metadata.json", "configs/inference.json", "models/model.onnx", "docs/README.md"}


def test_a_bundle_that_works_on_images(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    write_bundle(_release(tmp_path, "translation"), out)
    np.savez(tmp_path / "in.npz", images=np.zeros((2, 1, 32, 32)))
    run_bundle(out, input=str(tmp_path / "in.npz"))
    with np.load(tmp_path / "synthetic.npz") as made:
        assert made["images"].shape == (2, 1, 32, 32)


def test_nothing_is_overwritten(tmp_path: Path, release: Release) -> None:
    (tmp_path / "x").write_text("x")
    for place in (tmp_path, tmp_path / "x"):
        with pytest.raises(InputError, match="is not empty"):
            write_bundle(release, place)
    with pytest.raises(InputError, match="is a folder"):
        write_onnx(release, tmp_path)
