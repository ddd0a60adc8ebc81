"""PNG, JPEG and TIFF come back with their size and their bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medgan_core.errors import DataError
from medgan_core.release.apply.rasters import Raster
from tests.medgan_core.release.apply.making import bright, made, raster, written

RANDOM = np.random.default_rng(5)
KINDS: dict[str, tuple[np.ndarray[Any, Any], str]] = {
    "grey.png": (RANDOM.integers(0, 256, (40, 50), dtype=np.uint8), "grey"),
    "deep.png": (RANDOM.integers(0, 65536, (40, 50), dtype=np.uint16), "deep"),
    "deep.tif": (RANDOM.integers(0, 65536, (40, 50), dtype=np.uint16), "deep"),
    "colour.tiff": (RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8), "colour"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_changed_comes_back_bit_by_bit(tmp_path: Path, name: str) -> None:
    Image.fromarray(KINDS[name][0]).save(tmp_path / name)
    case = Raster(tmp_path / name, f"below/{name}")
    images = case.read().images
    assert images.shape[2:] == (40, 50)
    found = written(case.files(made("restoration", images)))
    np.testing.assert_array_equal(raster(found[f"below/{name}"]), KINDS[name][0])


@pytest.mark.parametrize("name", KINDS)
def test_a_mask_is_of_the_same_size(tmp_path: Path, name: str) -> None:
    Image.fromarray(KINDS[name][0]).save(tmp_path / name)
    case = Raster(tmp_path / name, name)
    images = case.read().images
    ((made_of, body),) = written(case.files(made("segmentation", bright(images)))).items()
    assert made_of == name.replace(".", "_mask.")
    np.testing.assert_array_equal(raster(body), np.where(images[0].mean(0) > 0, 255, 0))


def test_a_jpeg_becomes_a_png_and_grows(tmp_path: Path) -> None:
    Image.fromarray(KINDS["grey.png"][0]).save(tmp_path / "a.jpeg")
    case = Raster(tmp_path / "a.jpeg", "a.jpeg")
    images = case.read().images
    grown = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    found = written(case.files(made("restoration", grown, factor=2)))
    assert raster(found["a.png"]).shape == (80, 100)
    assert raster(found["a.png"]).dtype == np.uint8


def test_a_heat_map_lies_over_its_image(tmp_path: Path) -> None:
    Image.fromarray(KINDS["grey.png"][0]).save(tmp_path / "a.png")
    case = Raster(tmp_path / "a.png", "a.png")
    case.read()
    found = written(case.files(made("anomaly", torch.ones(1, 1, 40, 50), scores=torch.ones(1))))
    picture = raster(found["a_heat.png"]).astype(int)
    assert picture.shape == (40, 50, 3)
    assert (picture[..., 0] - picture[..., 2]).min() > 100


def test_what_is_no_single_image_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(KINDS["grey.png"][0]) for _ in range(2)]
    frames[0].save(tmp_path / "many.tif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.zeros((9, 9), np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    for name, why in (
        ("many.tif", "more than one frame"),
        ("float.tif", "floating-point"),
        ("small.png", "7×9 pixels"),
        ("broken.png", "cannot be decoded"),
    ):
        with pytest.raises(DataError, match=f"{name} .*{why}"):
            Raster(tmp_path / name, name).read()
