import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medgan_core.data.archives import Archive, read_archive
from medgan_core.errors import ConfigError, DataError
from tests.medgan_core.data.making import config, head, shared, write_nifti


def _read(root: Path, *modalities: str, **rest: Any) -> Archive:
    return read_archive(config("nifti", "set", modalities=modalities, **rest), root, name="x")


def _study(root: Path, name: str, *modalities: str, **rest: Any) -> None:
    for modality in modalities:
        write_nifti(root / "set" / f"{name}_{modality}.nii.gz", head(), **rest)


def test_modalities_are_channels_and_studies_of_a_patient_share_a_key(tmp_path: Path) -> None:
    _study(tmp_path, "part/p1_study1", "T1W", "FLAIR")
    _study(tmp_path, "part/deeper/p1_study2", "t1", "FLAIR")
    _study(tmp_path, "part/p2", "T1", "FLAIR", "T2")
    _study(tmp_path, "part/p3", "T1")
    (tmp_path / "set" / "readme.txt").touch()
    archive = _read(tmp_path, "T1", "FLAIR", slices_per_patient=0)
    data = archive.data
    assert data.patients == ("part/p1", "part/p2")
    assert data.card.channels == ("T1", "FLAIR")
    assert data.card.image_shape == tuple(data.images.shape[1:]) == (2, 28, 28)
    assert data.card.unit == "patient"
    assert data.card.classes == ("image",)
    assert not data.card.public
    assert archive.left_out == {"a study without FLAIR": 1}
    assert torch.equal(data.images[:, 0], data.images[:, 1])  # the same head was written for both
    assert data.owner.bincount()[0] == 2 * data.owner.bincount()[1]
    assert _read(tmp_path, "T1", classes=["brain"]).data.card.classes == ("brain",)


def test_a_patient_has_at_most_so_many_slices_spread_over_all(tmp_path: Path) -> None:
    _study(tmp_path, "p_1", "T1")
    every = _read(tmp_path, "T1", slices_per_patient=0).data.images
    some = _read(tmp_path, "T1", slices_per_patient=4).data.images
    assert len(every) > 8
    assert torch.equal(some, every[[(2 * i + 1) * len(every) // 8 for i in range(4)]])


def test_orientation_in_the_file_makes_no_difference(tmp_path: Path) -> None:
    import nibabel

    write_nifti(tmp_path / "set" / "a_T1.nii", head())
    for name, axes in (("b", "LPS"), ("c", "SRA"), ("d", "PIL")):
        image: Any = nibabel.load(tmp_path / "set" / "a_T1.nii")
        turn = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(tuple(axes))
        )
        nibabel.save(image.as_reoriented(turn), tmp_path / "set" / f"{name}_T1.nii")
    data = _read(tmp_path, "T1").data
    images = [data.images[data.owner == i] for i in range(4)]
    assert all(torch.allclose(images[0], other, atol=1e-5) for other in images[1:])
    middle = images[0][len(images[0]) // 2, 0]
    assert (
        middle[:14][middle[:14] > -1].mean() > middle[14:][middle[14:] > -1].mean() + 0.1
    )  # the front is up


def test_a_lesion_mask_is_the_last_channel(tmp_path: Path) -> None:
    _study(tmp_path, "p1", "FLAIR")
    _study(tmp_path, "p2", "FLAIR")
    lesion = np.zeros(head().shape, np.uint8)
    lesion[:12] = 7  # the left half: on the right of an image
    write_nifti(tmp_path / "set" / "p1_LESION.nii.gz", lesion)
    archive = _read(tmp_path, "FLAIR", masks="LESION")
    assert archive.data.patients == ("p1",)
    assert archive.data.card.channels == ("FLAIR", "mask")
    masks = archive.data.images[:, 1]
    assert set(masks.unique().tolist()) == {-1.0, 1.0}
    assert (masks[:, :, :13] == -1).all()
    assert (masks[:, 10:18, 15:20] == 1).all()


def test_a_volume_becomes_patches_whose_channels_are_its_slices(tmp_path: Path) -> None:
    _study(tmp_path, "p1", "T1")
    one = _read(tmp_path, "T1", depth=16).data
    assert one.images.shape == (1, 16, 28, 28)
    assert one.card.channels == tuple(f"slice {i}" for i in range(16))
    assert one.images[0, 8].mean() > one.images[0, 0].mean()  # the middle of the head is the widest
    write_nifti(tmp_path / "set" / "p2_T1.nii", head((20, 20, 64)))
    several = _read(tmp_path, "T1", depth=16, patches=5).data
    assert several.owner.bincount().tolist() == [1, 5]
    assert _read(tmp_path, "T1", depth=16, patches=5, slices_per_patient=2).data.owner.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("asked", "rest", "expected"),
    [
        (("T1", "T2"), {}, "set: no study has T2; expected files named <patient>_…_T2.nii.gz"),
        (("T1",), {"masks": "LESION"}, "set: no study has LESION"),
        (("T1", "PD"), {}, "no study has all of T1, PD together: a study without PD; a study without T1"),
    ],
)
def test_what_no_study_has_is_named(
    tmp_path: Path, asked: tuple[str, ...], rest: dict[str, str], expected: str
) -> None:
    _study(tmp_path, "p1", "T1")
    _study(tmp_path, "p2", "PD")
    with pytest.raises(DataError, match=expected):
        _read(tmp_path, *asked, **rest)


def test_pairs_on_different_grids_are_refused_by_name(tmp_path: Path) -> None:
    _study(tmp_path, "p1", "T1")
    moved = np.diag([1.0, 1, 3, 1])
    moved[1, 3] = 0.5
    write_nifti(tmp_path / "set" / "p1_T2.nii.gz", head(), moved)
    with pytest.raises(DataError, match=r"p1_T2.nii.gz is not registered to p1_T1.nii.gz: affine differs"):
        _read(tmp_path, "T1", "T2")
    write_nifti(tmp_path / "set" / "p1_T2.nii.gz", head((24, 30, 15)))
    with pytest.raises(DataError, match=r"not registered to p1_T1.nii.gz: shape .24, 30, 15. differs"):
        _read(tmp_path, "T1", "T2")


def _broken(name: str) -> Any:
    values = head()
    if name == "nan":
        values[0, 0, 0] = np.nan
    shapes: dict[str, Any] = {
        "flat": values[:, :, 0],
        "time": np.stack([values, values], axis=-1),
        "constant": np.ones_like(values),
        "complex": values.astype(np.complex64),
    }
    return shapes.get(name, values)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nan", "has values that are no numbers"),
        ("flat", "is of shape .24, 30.; expected one volume"),
        ("time", "is of shape .24, 30, 16, 2.; expected one volume"),
        ("constant", "has one value everywhere"),
        ("complex", "has values of type complex64; expected real numbers"),
    ],
)
def test_a_volume_that_cannot_be_used_is_refused_by_name(tmp_path: Path, name: str, expected: str) -> None:
    write_nifti(tmp_path / "set" / "p1_T1.nii.gz", _broken(name))
    with pytest.raises(DataError, match=f"set/p1_T1.nii.gz {expected}"):
        _read(tmp_path, "T1")


def test_a_mask_with_shades_and_a_dark_volume_are_refused(tmp_path: Path) -> None:
    _study(tmp_path, "p1", "T1", "MASK")
    with pytest.raises(DataError, match=r"p1_MASK.nii.gz is not binary"):
        _read(tmp_path, "T1", masks="MASK")
    values = np.zeros((40, 40, 16), np.float32)
    values[20, 20:24] = 5
    write_nifti(tmp_path / "set" / "p1_T1.nii.gz", values)
    with pytest.raises(DataError, match=r"p1_T1.nii.gz (shows no body|has one value)"):
        _read(tmp_path, "T1")


DAMAGED = {"empty": b"", "text": b"no volume", "no header": gzip.compress(b"x" * 1000)}


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, body: bytes) -> None:
    _study(tmp_path, "p1", "T1")
    path = tmp_path / "set" / "p1_T1.nii.gz"
    whole = path.read_bytes()
    for damaged in (body, whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"set/p1_T1.nii.gz cannot be read"):
            _read(tmp_path, "T1")


def test_names_that_say_too_little_or_too_much_are_refused(tmp_path: Path) -> None:
    write_nifti(tmp_path / "set" / "T1.nii.gz", head())
    with pytest.raises(DataError, match=r"set/T1.nii.gz names no patient"):
        _read(tmp_path, "T1")
    (tmp_path / "set" / "T1.nii.gz").unlink()
    _study(tmp_path, "p1", "T1", "T1W")
    with pytest.raises(DataError, match=r"p1_T1W.nii.gz: p1_T1.nii.gz is the same modality"):
        _read(tmp_path, "T1")
    (tmp_path / "set" / "p1_T1W.nii.gz").unlink()
    write_nifti(tmp_path / "other" / "T1.nii.gz", head())
    (tmp_path / "set" / "p2_T1.nii.gz").symlink_to(tmp_path / "other" / "T1.nii.gz")
    with pytest.raises(DataError, match="a link that leaves the folder"):
        _read(tmp_path, "T1")
    with pytest.raises(DataError, match="is no folder"):
        read_archive(config("nifti", "set/p1_T1.nii.gz", modalities=["T1"]), tmp_path, name="x")


@pytest.mark.parametrize(
    ("asked", "images", "patients"),
    [
        ({"modalities": ["T1", "FLAIR"]}, 149, 5),
        ({"modalities": ["T1", "T2", "FLAIR"], "slices_per_patient": 16}, 80, 5),
        ({"modalities": ["FLAIR"], "masks": "LESION"}, 58, 2),
        ({"modalities": ["FLAIR"], "depth": 32}, 6, 5),
    ],
)
def test_the_published_patients_are_read(asked: dict[str, Any], images: int, patients: int) -> None:
    root = shared("open_ms_mri")
    data = config("nifti", "open_ms_mri", image_size=64, **{"slices_per_patient": 0} | asked)
    archive = read_archive(data, root, name="ms")
    assert archive.data.card.public
    assert archive.data.images.shape == (images, *data.image_shape)
    assert len(archive.data) == patients
    assert archive.data.images.abs().max() <= 1
    if not data.depth and not data.masks:
        first, last = (
            archive.data.images[:, 0].flatten(1) > -0.8,
            archive.data.images[:, -1].flatten(1) > -0.8,
        )
        overlap = (first & last).sum(1) / (first | last).sum(1)
        assert overlap.median() > 0.8  # modalities show the same head


def test_named_patients_of_a_published_set_are_held_out_and_no_others(tmp_path: Path) -> None:
    root, left = shared("open_ms_mri"), "cross_sectional_MNI/patient07"
    data = config("nifti", "open_ms_mri", modalities=["T1"], hold_out=[left])
    archive = read_archive(data, root, name="ms")
    assert [k for k, held in zip(archive.data.patients, archive.held_out, strict=True) if held] == [left]
    wrong = data.model_copy(update={"hold_out": ("patient07",)})
    with pytest.raises(
        ConfigError, match=r"data.hold_out = 'patient07': expected patients of the set, such as"
    ):
        read_archive(wrong, root, name="ms")
    _study(tmp_path, "p1", "T1")
    with pytest.raises(
        ConfigError, match=r"data.hold_out = \('p1',\): expected \[\]: only patients of a published"
    ):
        _read(tmp_path, "T1", hold_out=["p1"])
