"""A folder of images of every kind: all are used or named, nothing is overwritten."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.uid import UID

from medgan_core.data_config import DataConfig
from medgan_core.errors import InputError
from medgan_core.gan.tasks import TASKS
from medgan_core.release.apply.damage import Damage
from medgan_core.release.apply.finding import find_cases
from medgan_core.release.apply.model import Model
from medgan_core.release.apply.run import apply_to
from tests.medgan_core.data.dicom.making import FILES, sample
from tests.medgan_core.data.making import config, head, write_nifti
from tests.medgan_core.release.apply.making import brightness, dataset, raster, release, still_model

DATA: DataConfig = config("dicom", "x")


def mixed_folder(folder: Path) -> Path:
    """An image of each kind, at several depths."""
    (folder / "a" / "b").mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 256, (40, 44), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "a" / "x.png")
    Image.fromarray(picture).save(folder / "a" / "b" / "x.jpg")
    np.savez(folder / "x.npz", images=picture[None])
    write_nifti(folder / "p_T1.nii.gz", head())
    shutil.copy(FILES / "CT_small.dcm", folder / "a" / "ct")
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_kind_comes_back_as_it_was(tmp_path: Path) -> None:
    source = mixed_folder(tmp_path / "in")
    told: list[tuple[int, int]] = []
    model = still_model(tmp_path / "r", "restoration")
    outcome = apply_to(model, source, tmp_path / "out", lambda done, total: told.append((done, total)))
    assert (outcome.cases, outcome.failed, outcome.left) == (5, [], [])
    assert told == [(i, 5) for i in range(5)]
    assert names(tmp_path / "out") == {"a/x.png", "a/b/x.png", "x.npz", "p_T1.nii.gz", "a/ct.dcm"}
    before, after = (np.asarray(Image.open(tmp_path / part / "a" / "x.png")) for part in ("in", "out"))
    np.testing.assert_array_equal(before, after)


def test_masks_of_every_kind(tmp_path: Path) -> None:
    source = mixed_folder(tmp_path / "in")
    model = Model(release(tmp_path / "r", "segmentation"), torch.device("cpu"), label="lung")
    assert apply_to(model, source, tmp_path / "out").failed == []
    expected = {"a/x_mask.png", "a/b/x_mask.png", "x.npz", "p_T1_mask.nii.gz", "a/ct_mask.dcm"}
    assert names(tmp_path / "out") == expected
    assert raster((tmp_path / "out" / "a" / "x_mask.png").read_bytes()).shape == (40, 44)


def test_twice_as_large(tmp_path: Path) -> None:
    source = mixed_folder(tmp_path / "in")
    model = still_model(tmp_path / "r", "restoration", Damage("superres2"))
    apply_to(model, source, tmp_path / "out")
    assert raster((tmp_path / "out" / "a" / "x.png").read_bytes()).shape == (80, 88)
    assert dataset((tmp_path / "out" / "a" / "ct.dcm").read_bytes()).Rows == 256
    volume = nibabel.load(tmp_path / "out" / "p_T1.nii.gz")
    assert volume.shape == (2 * head().shape[0], 2 * head().shape[1], head().shape[2])  # type: ignore[attr-defined]


def test_outside_of_holes_nothing_changes(tmp_path: Path) -> None:
    mixed_folder(tmp_path / "in")
    holes = np.zeros((40, 44), bool)
    holes[4:9, 5:12] = True
    model = replace(
        still_model(tmp_path / "r", "restoration", Damage("inpaint")), damage=Damage("inpaint", holes=holes)
    )
    outcome = apply_to(model, tmp_path / "in" / "a" / "x.png", tmp_path / "out")
    assert outcome.cases == 1
    before, after = (np.asarray(Image.open(p)) for p in (tmp_path / "in/a/x.png", tmp_path / "out/x.png"))
    np.testing.assert_array_equal(before[~holes], after[~holes])
    assert after[holes].std() < before[holes].std()  # the still network leaves the smooth first guess
    outcome = apply_to(model, tmp_path / "in" / "x.npz", tmp_path / "npz")
    assert outcome.failed == []
    (failed,) = apply_to(model, tmp_path / "in" / "a" / "ct", tmp_path / "ct").failed
    assert "1 images of 128×128 pixels, but --holes is of shape 40×44" in failed[1]


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_kept(tmp_path: Path, channels: int) -> None:
    (tmp_path / "in").mkdir()
    colour = np.random.default_rng(0).integers(0, 256, (40, 44, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "in" / "colour.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "in" / "grey.png")
    made = release(tmp_path / "r", "restoration", still=True, channels=channels)
    apply_to(Model(made, torch.device("cpu"), Damage("noise", 0.1)), tmp_path / "in", tmp_path / "out")
    for name, expected in (("colour.png", colour), ("grey.png", colour[..., 0])):
        np.testing.assert_array_equal(raster((tmp_path / "out" / name).read_bytes()), expected)


def test_scores_and_heat_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "anomaly", brightness)
    source = mixed_folder(tmp_path / "in")
    apply_to(Model(release(tmp_path / "r", "anomaly"), torch.device("cpu")), source, tmp_path / "out")
    expected = {"a/x_heat.png", "a/b/x_heat.png", "x.npz", "p_T1_heat.nii.gz", "a/ct_heat.dcm", "scores.csv"}
    assert names(tmp_path / "out") == expected
    with (tmp_path / "out" / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["file"] for row in rows} == {"a/x.png", "a/b/x.jpg", "x.npz", "p_T1.nii.gz", "a/ct"}
    assert all(0 <= float(row["score"]) <= 1 for row in rows)
    (png,) = (float(row["score"]) for row in rows if row["file"] == "a/x.png")
    picture = np.asarray(Image.open(source / "a" / "x.png"))
    assert png == pytest.approx(picture.mean() / 255, abs=0.005)


def test_what_cannot_be_used_is_named_and_the_rest_is_done(tmp_path: Path) -> None:
    source = mixed_folder(tmp_path / "in")
    (source / "broken.png").write_bytes(b"\x89PNG")
    (source / "empty.dcm").touch()
    (source / "README").write_text("not an image")
    (source / "cut.nii.gz").write_bytes(b"\x1f\x8b")
    np.savez(source / "other.npz", a=np.zeros(3), b=np.zeros(3))
    sample("CT_small.dcm", RescaleIntercept=None).save_as(source / "values.dcm")
    shutil.copy(FILES / "MR_small_expb.dcm", source / "big_endian.dcm")
    shutil.copy(FILES / "rtplan.dcm", source / "plan.dcm")
    Image.fromarray(np.zeros((40, 44), np.uint8)).save(source / "a" / "x.bmp")
    outcome = apply_to(still_model(tmp_path / "r", "restoration"), source, tmp_path / "out")
    assert outcome.cases == 5
    why = dict(outcome.failed)
    assert set(why) == {
        "broken.png",
        "empty.dcm",
        "cut.nii.gz",
        "other.npz",
        "values.dcm",
        "big_endian.dcm",
        "a/x.png",
    }
    assert "not in HU" in why["values.dcm"]
    assert "big-endian, which is not supported" in why["big_endian.dcm"]
    assert "a/x.png is the output of another input too" in why["a/x.png"]
    assert dict(outcome.left).keys() == {"README", "plan.dcm"}


def test_an_output_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    source = mixed_folder(tmp_path / "in")
    model = still_model(tmp_path / "r", "restoration")
    for out in (source, source / "x.npz"):
        with pytest.raises(InputError, match="exists and is not empty"):
            apply_to(model, source, out)
    with pytest.raises(InputError, match="IN nowhere: no such file or folder"):
        apply_to(model, tmp_path / "nowhere", tmp_path / "o")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="IN empty holds no image"):
        apply_to(model, tmp_path / "empty", tmp_path / "o")


def test_echoes_of_a_series_are_volumes_of_their_own(tmp_path: Path) -> None:
    for echo in range(2):
        for z in range(3):
            one = sample(
                "MR_small.dcm", ImagePositionPatient=[0, 0, z], EchoTime=echo, FrameOfReferenceUID="1.2"
            )
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.{echo}.{z}")
            one.save_as(tmp_path / f"{echo}{z}.dcm")
    together = find_cases(tmp_path, DATA, (), series=True).cases
    assert [case.name for case in together] == [f"{echo}0.dcm and 2 more of its series" for echo in range(2)]
    assert len(find_cases(tmp_path, DATA, (), series=False).cases) == 6


def test_volumes_of_a_study_are_found_by_their_modality(tmp_path: Path) -> None:
    for name in ("p1_T1", "p1_FLAIR", "p2_T1W", "deep/p3_T1", "deep/p3_FLAIR", "p3_LESION"):
        write_nifti(tmp_path / f"{name}.nii.gz", head())
    found = find_cases(tmp_path, DATA, ("T1",), series=False)
    assert [case.name for case in found.cases] == ["deep/p3_T1.nii.gz", "p1_T1.nii.gz", "p2_T1W.nii.gz"]
    assert len(found.left) == 3
    found = find_cases(tmp_path, DATA, ("T1", "FLAIR"), series=False)
    assert [case.name for case in found.cases] == ["deep/p3_T1.nii.gz", "p1_T1.nii.gz"]
    assert found.failed == [("p2", "has no FLAIR, which the network takes")]
    found = find_cases(tmp_path / "p3_LESION.nii.gz", DATA, ("T1",), series=False)
    assert [case.name for case in found.cases] == ["p3_LESION.nii.gz"]


def test_a_network_of_two_modalities_takes_no_single_picture(tmp_path: Path) -> None:
    source = mixed_folder(tmp_path / "in")
    changes = {
        "data.kind": "nifti",
        "data.modalities": ["T1", "FLAIR"],
        "data.masks": "LESION",
        "data.classes": ["a"],
    }
    made = release(tmp_path / "r", "segmentation", changes, channels=3)
    (failed,) = apply_to(Model(made, torch.device("cpu")), source / "a" / "x.png", tmp_path / "o").failed
    assert "shows 1 of what is needed: T1, FLAIR" in failed[1]
