"""Volumes come back with their shape, affine, orientation and type."""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from medgan_core.data_config import DataConfig
from medgan_core.errors import DataError
from medgan_core.release.apply.nifti import Volume
from tests.medgan_core.data.making import config, shared
from tests.medgan_core.release.apply.making import bright, made, written

DATA: DataConfig = config("nifti", "x", modalities=["T1"])
AFFINE = np.array([[0.9, 0.1, 0, -40], [-0.1, 1.1, 0, -50], [0, 0, 3, 7], [0, 0, 0, 1.0]])


def head(dtype: str = "int16") -> np.ndarray[Any, Any]:
    """A ball that lies off the middle, [24, 30, 6]."""
    x, y, z = np.mgrid[:24, :30, :6]
    inside = np.hypot(x - 9, y - 20) < 7
    noise = np.random.default_rng(0).integers(1, 40, inside.shape)
    return np.asarray(inside * (300 + 20 * z) + noise, dtype)


def save(path: Path, axes: str = "RAS", dtype: str = "int16", **header: Any) -> Any:
    image = nibabel.Nifti1Image(head(dtype), AFFINE)
    image.header.set_xyzt_units("mm")
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(tuple(axes))
    )
    turned = image.as_reoriented(turn)
    for key, value in header.items():
        turned.header[key] = value
    nibabel.save(turned, path)
    return nibabel.load(path)


def opened(folder: Path, files: dict[str, bytes]) -> Any:
    """The only file, by its name."""
    ((name, body),) = files.items()
    path = folder / "out" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    return nibabel.load(path)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SRA", "PIL"])
@pytest.mark.parametrize("dtype", ["int16", "float32", "uint8"])
def test_what_is_not_changed_comes_back(tmp_path: Path, axes: str, dtype: str) -> None:
    image = save(tmp_path / "a_T1.nii.gz", axes, dtype)
    case = Volume([tmp_path / "a_T1.nii.gz"], "a_T1.nii.gz", DATA)
    back = opened(tmp_path, written(case.files(made("restoration", case.read().images))))
    assert back.shape == image.shape
    assert back.get_data_dtype() == image.get_data_dtype()
    np.testing.assert_array_equal(back.affine, image.affine)
    assert nibabel.aff2axcodes(back.affine) == tuple(axes)
    assert back.header.get_xyzt_units()[0] == "mm"
    assert back.header["sform_code"] == image.header["sform_code"]
    np.testing.assert_allclose(back.get_fdata(), image.get_fdata(), atol=0.01 if dtype == "float32" else 0)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SRA"])
def test_a_mask_lies_on_what_it_is_of(tmp_path: Path, axes: str) -> None:
    image = save(tmp_path / "a_T1.nii", axes)
    case = Volume([tmp_path / "a_T1.nii"], "below/a_T1.nii", DATA)
    pictures = case.read()
    assert pictures.images.shape == (6, 1, 30, 24)
    assert pictures.spacing == pytest.approx((np.hypot(0.1, 1.1), np.hypot(0.9, 0.1)))
    files = written(case.files(made("segmentation", bright(pictures.images))))
    assert list(files) == ["below/a_T1_mask.nii"]
    back = opened(tmp_path, files)
    assert back.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(back.affine, image.affine)
    np.testing.assert_array_equal(back.get_fdata(), image.get_fdata() > 200)


def test_twice_the_resolution_lies_in_the_same_place(tmp_path: Path) -> None:
    """The middle of each old voxel is the middle of its four new ones."""
    image = save(tmp_path / "a_T1.nii.gz", "LPS")
    case = Volume([tmp_path / "a_T1.nii.gz"], "a_T1.nii.gz", DATA)
    images = case.read().images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    back = opened(tmp_path, written(case.files(made("restoration", images, factor=2))))
    assert back.shape == (48, 60, 6)
    np.testing.assert_allclose(
        back.header.get_zooms(), np.array(image.header.get_zooms()) / [2, 2, 1], rtol=1e-5
    )
    old, new = np.array([5, 7, 2, 1]), np.array([10.5, 14.5, 2, 1])
    np.testing.assert_allclose(back.affine @ new, image.affine @ old, atol=1e-4)


def test_heat_maps_are_floats_in_0_to_1(tmp_path: Path) -> None:
    save(tmp_path / "a_T1.nii.gz")
    case = Volume([tmp_path / "a_T1.nii.gz"], "a_T1.nii.gz", DATA)
    images = case.read().images
    back = opened(tmp_path, written(case.files(made("anomaly", images, scores=torch.zeros(6)))))
    assert back.get_data_dtype() == np.float32
    assert (back.get_fdata().min(), back.get_fdata().max()) == (0, 1)


def test_modalities_are_channels_and_must_lie_on_one_grid(tmp_path: Path) -> None:
    save(tmp_path / "a_T1.nii")
    save(tmp_path / "a_T2.nii")
    case = Volume([tmp_path / "a_T1.nii", tmp_path / "a_T2.nii"], "a_T1.nii", DATA)
    pictures = case.read()
    assert (pictures.images.shape[1], pictures.modalities) == (2, True)
    files = written(case.files(made("restoration", pictures.images)))
    assert list(files) == ["a_T1.nii", "a_T2.nii"]
    save(tmp_path / "b_T2.nii", "LPS")
    with pytest.raises(DataError, match=r"b_T2\.nii is not registered to a_T1\.nii: their affines differ"):
        Volume([tmp_path / "a_T1.nii", tmp_path / "b_T2.nii"], "a", DATA).read()


def test_scaled_values_and_a_fourth_axis(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(head("float32")[..., None] / 1000, AFFINE)
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii.gz")
    source: Any = nibabel.load(tmp_path / "a.nii.gz")
    case = Volume([tmp_path / "a.nii.gz"], "a.nii.gz", DATA)
    back = opened(tmp_path, written(case.files(made("restoration", case.read().images))))
    assert back.shape == source.shape == (24, 30, 6, 1)
    np.testing.assert_allclose(back.get_fdata(), source.get_fdata(), atol=1e-4)


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 3, 2), np.int16), AFFINE), tmp_path / "four.nii")
    nibabel.save(nibabel.Nifti1Image(np.ones((9, 9, 3), np.int16), AFFINE), tmp_path / "flat.nii")
    nibabel.save(nibabel.Nifti1Image(np.full((9, 9, 3), np.nan, np.float32), AFFINE), tmp_path / "nan.nii")
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(b"no header"))
    for name, why in (
        ("four.nii", "one volume of three axes"),
        ("flat.nii", "one value everywhere"),
        ("nan.nii", "no numbers"),
        ("cut.nii.gz", "cannot be read"),
    ):
        with pytest.raises(DataError, match=f"{name} .*{why}"):
            Volume([tmp_path / name], name, DATA).read()


def test_a_ct_window_of_training_is_that_of_use(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.linspace(-1350, 150, 9 * 9 * 2).reshape(9, 9, 2), AFFINE)
    nibabel.save(image, tmp_path / "a.nii")
    data = config("dicom", "x", modality="CT", window="lung")
    images = Volume([tmp_path / "a.nii"], "a.nii", data).read().images
    assert (float(images.min()), float(images.max())) == pytest.approx((-1, 1))


def test_a_real_volume(tmp_path: Path) -> None:
    path = (
        shared("open_ms_mri") / "open_ms_mri" / "longitudinal_raw_resampled" / "patient01_study1_FLAIR.nii.gz"
    )
    image: Any = nibabel.load(path)
    case = Volume([path], path.name, config("nifti", "x", modalities=["FLAIR"]))
    back = opened(tmp_path, written(case.files(made("restoration", case.read().images))))
    assert back.shape == image.shape
    np.testing.assert_array_equal(back.affine, image.affine)
    spread = float(np.ptp(image.get_fdata()))
    np.testing.assert_allclose(back.get_fdata(), image.get_fdata(), atol=1e-4 * spread)
