"""Arrays of an npz come back under their names."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgan_core.errors import DataError
from medgan_core.release.apply.arrays import Archive
from tests.medgan_core.release.apply.making import bright, made, written

RANDOM = np.random.default_rng(5)
GREY = RANDOM.integers(0, 256, (3, 20, 30), dtype=np.uint8)
COLOUR = RANDOM.random((2, 20, 30, 3), dtype=np.float32)


def read(body: bytes) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize("array", [GREY, COLOUR])
def test_what_is_not_changed_comes_back(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    np.savez(tmp_path / "a.npz", scans=array)
    case = Archive(tmp_path / "a.npz", "a.npz")
    (body,) = written(case.files(made("restoration", case.read().images))).values()
    found = read(body)
    assert (found["scans"].dtype, found["scans"].shape) == (array.dtype, array.shape)
    np.testing.assert_allclose(found["scans"], array, atol=1e-6)


def test_splits_keep_their_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=GREY, test_images=GREY[:1], train_labels=np.zeros(3))
    case = Archive(tmp_path / "a.npz", "a.npz")
    images = case.read().images
    assert images.shape == (4, 1, 20, 30)
    found = read(written(case.files(made("segmentation", bright(images))))["a.npz"])
    assert {name: (a.shape, a.dtype.name) for name, a in found.items()} == {
        "train_masks": ((3, 20, 30), "uint8"),
        "test_masks": ((1, 20, 30), "uint8"),
    }
    np.testing.assert_array_equal(found["test_masks"][0], GREY[0] > 127)


def test_heat_maps_have_scores(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY)
    case = Archive(tmp_path / "a.npz", "a.npz")
    images = case.read().images
    scores = images.mean((1, 2, 3))
    found = read(written(case.files(made("anomaly", images, scores=scores)))["a.npz"])
    np.testing.assert_allclose(found["heat"], GREY / 255, atol=1e-6)
    np.testing.assert_allclose(found["scores"], scores)


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"images": GREY.astype(np.int32)}, "of type int32"),
        ({"images": COLOUR * 2}, r"no numbers in \[0, 1\]"),
        ({"images": GREY[0]}, "has the shape 20×30"),
        ({"images": GREY[:, :7]}, "8×8 pixels at least"),
        ({"a": GREY, "b": GREY}, "has no array images"),
        ({"train_images": GREY, "test_images": GREY[:, :10]}, "differ in size"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, arrays: dict[str, Any], why: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=rf"a\.npz.*{why}"):
        Archive(tmp_path / "a.npz", "a.npz").read()


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a\.npz is no npz archive"):
        Archive(tmp_path / "a.npz", "a.npz").read()
