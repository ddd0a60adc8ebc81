"""The command lines: what they say, and how they end."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgan_core.gan.tasks import TASKS
from tests.medgan_core.release.apply.making import brightness, dataset, release
from tests.medgan_core.release.dicom.conftest import _built, _built_public, cohort
from tests.medgan_core.release.making import build
from tests.medgan_core.test_cli import Medgan, medgan

__all__ = ["_built", "_built_public", "cohort", "medgan"]


def pictures(folder: Path, count: int = 2) -> Path:
    folder.mkdir()
    for i in range(count):
        Image.fromarray(np.full((40, 40), 30 * i + 60, np.uint8)).save(folder / f"{i}.png")
    return folder


def test_segment(medgan: Medgan, tmp_path: Path, cohort: Path) -> None:
    made = release(tmp_path / "r", "segmentation").folder
    lung = ("--label", "lung", "--code", "39607008^SCT^Lung")
    said = medgan("segment", made, cohort, tmp_path / "out", *lung, "--device", "cpu")
    assert (said.code, said.err) == (
        0,
        "left out: DICOMDIR: is refused (dicomdir): a DICOMDIR: an index, no image\n",
    )
    assert "13 images of 9 files segmented" in said.out
    masks = sorted((tmp_path / "out").rglob("*_mask.dcm"))
    assert len(masks) == 9
    (segment,) = dataset(masks[0].read_bytes()).SegmentSequence
    assert segment.SegmentLabel == "lung"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"
    for option in (("--code", "lung"), ("--label", "a\nb"), ("--device", "tpu")):
        assert medgan("segment", made, cohort, tmp_path / "x", *option).code == 2


def test_restore_says_what_it_needs(medgan: Medgan, tmp_path: Path) -> None:
    made = release(tmp_path / "r", "restoration", {"mapping.corruption": "blur"}).folder
    source = pictures(tmp_path / "in")
    assert "undoes blur: give --blur" in medgan("restore", made, source, tmp_path / "o").err
    said = medgan("restore", made, source, tmp_path / "o", "--blur", 1.5)
    assert said.code == 0
    assert "2 images of 2 files restored, blur 1.5 pixels" in said.out
    again = medgan("restore", made, source, tmp_path / "o", "--blur", 1.5)
    assert (again.code, "OUT o exists and is not empty" in again.err) == (2, True)


def test_what_is_skipped_is_named_and_counted(medgan: Medgan, tmp_path: Path) -> None:
    made = release(tmp_path / "r", "translation", {"privacy.mode": "off"}).folder
    source = pictures(tmp_path / "in")
    (source / "broken.png").write_bytes(b"x")
    said = medgan("translate", made, source, tmp_path / "out")
    assert said.code == 2
    assert "2 images of 2 files translated" in said.out
    assert "NOT PRIVATE: this network was trained without" in said.err
    assert "skipped: broken.png: broken.png cannot be decoded" in said.err
    assert "error: 1 of 3 were skipped: they are named above" in said.err
    assert str(tmp_path) not in said.err


def test_detect(medgan: Medgan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "anomaly", brightness)
    made = release(tmp_path / "r", "anomaly").folder
    assert medgan("detect", made, pictures(tmp_path / "in"), tmp_path / "out").code == 0
    assert (tmp_path / "out" / "scores.csv").read_text().splitlines()[1] == "0.png,0.png,0.235294"


@pytest.mark.parametrize("command", ["segment", "restore", "translate", "detect"])
def test_a_release_that_draws_images_says_so(medgan: Medgan, tmp_path: Path, command: str) -> None:
    said = medgan(command, build(tmp_path / "r").folder, tmp_path, tmp_path / "out")
    assert said.code == 2
    assert (
        said.err == f"error: a release of task synthesis is not for medgan {command}: use medgan generate\n"
    )
    assert not (tmp_path / "out").exists()


def test_generate_says_what_a_release_is_for(medgan: Medgan, tmp_path: Path) -> None:
    made = release(tmp_path / "r", "restoration").folder
    for options in (("--n", 3), ("--labels", "normal=1"), ("--n", 3, "--format", "dicom")):
        said = medgan("generate", made, *options, "--out", tmp_path / "x")
        assert (said.code, "use medgan restore" in said.err) == (2, True)
