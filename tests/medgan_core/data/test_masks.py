from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.data.archives import Archive, read_archive
from medgan_core.data.masks import binary, nearest
from medgan_core.errors import DataError
from tests.medgan_core.data.making import config, image_bytes, mask_bytes, shared, write_csv, write_zip

ROWS = [[f"{i}.png", f"p{i}", "ab"[i % 2]] for i in range(4)]


def _set(root: Path, masks: dict[str, bytes], rows: list[list[str]] = ROWS) -> None:
    (root / "set").mkdir(exist_ok=True)
    write_zip(root / "set" / "images.zip", {row[0]: image_bytes(seed=i) for i, row in enumerate(rows)})
    write_zip(root / "set" / "masks.zip", masks)
    write_csv(root / "set" / "index.csv", [["file", "patient", "label"], *rows])


def _read(root: Path, masks: str = "masks.zip", **rest: object) -> Archive:
    table = {"patients": "index.csv:patient"}
    return read_archive(config("folder", "set", masks=masks, **table, **rest), root, name="x")


def test_an_image_and_its_mask_are_channels_and_images_without_one_are_left_out(tmp_path: Path) -> None:
    _set(tmp_path, {f"{i}.png": mask_bytes(mode=mode) for i, mode in enumerate("L1P")})
    archive = read_archive(
        config("folder", "set", masks="masks.zip", patients="index.csv:patient"), tmp_path, name="x"
    )
    (tmp_path / "set" / "masks.zip").unlink()
    plain = read_archive(config("folder", "set", patients="index.csv:patient"), tmp_path, name="x")
    assert archive.data.card.channels == ("image", "mask")
    assert archive.data.card.image_shape == (2, 28, 28)
    assert archive.data.images.shape == (3, 2, 28, 28)
    assert torch.equal(archive.data.images[:, :1], plain.data.images[:3])
    assert (archive.data.images[:, 1, :, :14] == 1).all()
    assert (archive.data.images[:, 1, :, 14:] == -1).all()
    assert archive.data.patients == ("p0", "p1", "p2")
    assert archive.left_out == {"no mask in set/masks.zip": 1}
    assert plain.data.card.channels == ()


def test_masks_lie_in_a_folder_or_are_named_by_a_manifest(tmp_path: Path) -> None:
    _set(tmp_path, {})
    for i in range(2):
        (tmp_path / "set" / "drawn").mkdir(exist_ok=True)
        (tmp_path / "set" / "drawn" / f"{i}.png").write_bytes(mask_bytes())
    folder = _read(tmp_path, "drawn")
    named = [["file", "mask"], ["1.png", "drawn/0.png"], ["2.png", "drawn/1.png"], ["3.png", ""]]
    write_csv(tmp_path / "set" / "masks.csv", named)
    manifest = _read(tmp_path, "masks.csv:mask")
    assert folder.data.patients == ("p0", "p1")
    assert manifest.data.patients == ("p1", "p2")
    assert manifest.left_out == {"no mask in set/masks.csv:mask": 2}


def test_class_folders_do_not_count_the_masks_as_a_class(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        (tmp_path / "set" / label / "0.png").write_bytes(image_bytes())
    write_zip(tmp_path / "set" / "masks.zip", {"a/0.png": mask_bytes()})
    archive = read_archive(config("folder", "set", masks="masks.zip"), tmp_path, name="x")
    assert archive.data.card.classes == ("a",)  # b has no mask, and the zip is none
    assert len(archive.data.images) == 1
    (tmp_path / "set" / "masks" / "a").mkdir(parents=True)
    (tmp_path / "set" / "masks" / "a" / "0.png").write_bytes(mask_bytes())
    (tmp_path / "set" / "masks.zip").unlink()
    again = read_archive(config("folder", "set", masks="masks"), tmp_path, name="x")
    assert torch.equal(again.data.images, archive.data.images)


def test_colours_keep_their_channels_before_the_mask(tmp_path: Path) -> None:
    _set(tmp_path, {"0.png": mask_bytes()})
    data = _read(tmp_path, channels=3).data
    assert data.card.channels == ("red", "green", "blue", "mask")
    assert data.images.shape == (1, 4, 28, 28)


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ({}, "set: no image has a mask in set/masks.zip"),
        ({"other.png": mask_bytes()}, "no image has a mask"),
        ({"0.png": image_bytes()}, r"row 2: the mask 0.png is not binary: it has \d+ values"),
        ({"0.jpeg": mask_bytes(form="JPEG", value=200)}, "the mask 0.jpeg is not binary"),
        ({"0.png": mask_bytes(14)}, "row 2: the mask 0.png is of 14×14 pixels, its image of 28×28"),
        ({"0.png": b"no image"}, "row 2: the mask 0.png cannot be decoded"),
        ({"0.png": mask_bytes()[:60]}, "row 2: the mask 0.png cannot be decoded"),
        ({"0.png": mask_bytes(), "0.bmp": mask_bytes(form="BMP")}, "row 2: 0.png has more than one mask"),
        ({"x/0.png": mask_bytes(), "y/0.png": mask_bytes()}, "row 2: 0.png has more than one mask"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, masks: dict[str, bytes], expected: str
) -> None:
    _set(tmp_path, masks)
    with pytest.raises(DataError, match=expected):
        _read(tmp_path)


def test_a_mask_whose_name_fits_two_images_is_refused(tmp_path: Path) -> None:
    rows = [["a/0.png", "p", "a"], ["b/0.png", "q", "b"]]
    _set(tmp_path, {"0.png": mask_bytes()}, rows)
    with pytest.raises(DataError, match=r"row 2: the mask 0.png may be that of another image too"):
        _read(tmp_path)
    _set(tmp_path, {"a/0.png": mask_bytes()}, rows)
    assert _read(tmp_path).data.patients == ("p",)


@pytest.mark.parametrize(
    ("masks", "alone", "both"),
    [
        (["sub/x.png", "x.png"], ("p", "r"), ("p", "q", "r")),
        (["x.png"], ("p", "r"), None),  # by its end for p, by its path for q
        (["sub/x.png"], ("p", "r"), None),
        (["other/x.png"], ("r",), ("q", "r")),
        (["other/sub/x.png"], ("p", "r"), None),
    ],
)
def test_another_patients_image_takes_no_mask_away(
    tmp_path: Path, masks: list[str], alone: tuple[str, ...], both: tuple[str, ...] | None
) -> None:
    rows = [["sub/x.png", "p", "a"], ["x.png", "q", "a"], ["z.png", "r", "a"]]
    files = {name: mask_bytes() for name in (*masks, "z.png")}
    _set(tmp_path, files, [rows[0], rows[2]])
    assert _read(tmp_path).data.patients == alone
    _set(tmp_path, files, rows)
    if both:
        assert _read(tmp_path).data.patients == both
        return
    with pytest.raises(DataError, match=r"row 2: the mask .*x\.png may be that of another image too"):
        _read(tmp_path)


def test_the_folders_that_say_images_and_masks_need_not_agree(tmp_path: Path) -> None:
    rows = [["images/a/x.png", "p", "a"], ["images/b/x.png", "q", "a"], ["images/c/x.png", "r", "a"]]
    _set(tmp_path, {"Masks/a/x.png": mask_bytes(), "Masks/b/x.png": mask_bytes()}, rows)
    assert _read(tmp_path).data.patients == ("p", "q")


def test_masks_that_are_missing_or_lie_outside_are_refused(tmp_path: Path) -> None:
    _set(tmp_path, {"0.png": mask_bytes()})
    for name in ("none.zip", "../set/masks.zip"):
        with pytest.raises(DataError, match="missing"):
            _read(tmp_path, name)
    (tmp_path / "set" / "masks.zip").unlink()
    write_csv(tmp_path / "set" / "m.csv", [["file", "mask"], ["0.png", "../../secret.png"]])
    with pytest.raises(DataError, match="leaves the folder"):
        _read(tmp_path, "m.csv:mask")


def test_a_site_without_any_mask_is_refused_by_its_name(tmp_path: Path) -> None:
    _set(tmp_path, {"0.png": mask_bytes()})
    rows = [["file", "patient", "label", "site"], ["0.png", "p", "a", "north"], ["1.png", "q", "a", "south"]]
    write_csv(tmp_path / "set" / "index.csv", rows)
    with pytest.raises(DataError, match=r"site south: all images are left out: no mask in set/masks.zip"):
        _read(tmp_path)


@given(st.lists(st.integers(-3, 300), min_size=1, max_size=40))
def test_a_mask_has_zero_and_at_most_one_other_value(values: list[int]) -> None:
    kinds = set(values)
    if len(kinds) == 1 or (len(kinds) == 2 and min(kinds) == 0):
        assert binary(np.array(values), "m").tolist() == [value != 0 for value in values]
    else:
        with pytest.raises(DataError, match="m is not binary"):
            binary(np.array(values), "m")


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([28, 32, 64]))
def test_resizing_a_mask_makes_no_new_values(height: int, width: int, side: int) -> None:
    mask = np.random.default_rng(height).random((height, width)) < 0.5
    drawn = nearest(mask, side)
    assert drawn.shape == (side, side)
    assert set(drawn.unique().tolist()) <= {-1.0, 1.0}


def test_the_lung_masks_of_the_published_set_keep_it_public() -> None:
    root = shared("kermany_cxr_224/lung_masks_224.zip")
    table = {"patients": "index.csv:patient_key", "labels": "index.csv:label"}
    data = config("folder", "kermany_cxr_224", masks="lung_masks_224.zip", **table)
    archive = read_archive(data, root, name="lungs")
    assert archive.data.card.public
    assert len(archive.data.images) == 5544
    assert archive.left_out == {"no mask in kermany_cxr_224/lung_masks_224.zip": 312}
    masks = archive.data.images[:, 1]
    assert set(masks.unique().tolist()) == {-1.0, 1.0}
    assert 0.1 < (masks > 0).float().mean() < 0.5
    # lungs hold air: the image is darker where its mask is
    inside = archive.data.images[:, 0][masks > 0].mean()
    assert inside < archive.data.images[:, 0][:, 6:22, 6:22][masks[:, 6:22, 6:22] < 0].mean()
