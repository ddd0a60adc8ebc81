"""A network sees an image as in training, and its output lies where the image does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medgan_core.data.transforms import prepare
from medgan_core.gan.corruptions import CORRUPTIONS
from medgan_core.release.apply import views
from tests.medgan_core.data.making import config


def same(images: Tensor) -> Tensor:
    return images


def smooth(rows: int, columns: int) -> Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 3, rows), torch.linspace(0, 2, columns), indexing="ij")
    return (torch.sin(y) * torch.cos(x))[None, None]


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 80), st.integers(8, 80))
def test_tiles_of_any_image_blend_to_what_it_was(rows: int, columns: int) -> None:
    image = smooth(rows, columns)
    torch.testing.assert_close(views.seen_in_tiles(same, image, 32), image, atol=1e-5, rtol=0)


def test_tiles_are_as_large_as_the_images_of_training() -> None:
    seen: list[tuple[int, ...]] = []

    def network(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape[1:]))
        return images[:, :1]

    made = views.seen_in_tiles(network, torch.zeros(2, 3, 70, 40), 32)
    assert set(seen) == {(3, 32, 32)}
    assert made.shape == (2, 1, 70, 40)


def test_a_whole_image_is_squashed_as_in_training() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 50, 70), dtype=np.uint8)
    expected = prepare(pixels, config("npz", "x", image_size=32), (0, 255))
    seen: list[Tensor] = []

    def network(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    images = torch.from_numpy(pixels / np.float32(255))[:, None] * 2 - 1
    assert views.seen_whole(network, images, 32).shape == images.shape
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=0)


def test_holes_come_to_the_network_as_in_training() -> None:
    image = torch.rand(1, 32, 32) * 2 - 1
    spoiled, hole = CORRUPTIONS["inpaint"](image, torch.Generator().manual_seed(3))
    seen: list[Tensor] = []

    def network(inputs: Tensor) -> Tensor:
        seen.append(inputs)
        return inputs[:, :1].clone()

    views.with_holes(network, image[None], hole.bool(), 32)
    torch.testing.assert_close(seen[0][0], torch.cat([spoiled, hole]))


@pytest.mark.parametrize("side", [16, 17])
def test_a_large_hole_is_filled_in_the_whole_image(side: int) -> None:
    """Up to a quarter of a tile holes are seen in tiles, larger ones in the whole image, once."""
    seen: list[Tensor] = []

    def network(inputs: Tensor) -> Tensor:
        seen.append(inputs)
        return torch.full_like(inputs[:, :1], 0.5)

    holes = torch.zeros(1, 200, 160, dtype=torch.bool)
    holes[0, 30 : 30 + side, 40 : 40 + side] = True
    made = views.with_holes(network, torch.zeros(1, 1, 200, 160), holes, 64)
    assert {tuple(part.shape[1:]) for part in seen} == {(2, 64, 64)}
    assert (sum(map(len, seen)) == 1) == (side > 16)
    assert made.shape == (1, 1, 200, 160)
    assert set(seen[0][:, 1].unique().tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(made, torch.full_like(made, 0.5))


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0), (0.5, 1.2)])
def test_proportions_come_back_to_their_place(spacing: tuple[float, float] | None) -> None:
    image = smooth(60, 44)
    made = views.seen_in_proportion(same, image, 64, spacing)
    torch.testing.assert_close(made, image, atol=0.05, rtol=0)


def test_a_spacing_is_that_of_training() -> None:
    sizes: set[tuple[int, ...]] = set()

    def network(images: Tensor) -> Tensor:
        sizes.add(tuple(images.shape[2:]))
        return images

    image = smooth(100, 100)
    made = views.seen_at_spacing(network, image, 32, (0.5, 0.5), 1.0)
    assert sizes == {(32, 32)}
    torch.testing.assert_close(made, image, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("task", "kind", "spacing", "view"),
    [
        ("restoration", "nifti", 1.0, "tiles"),
        ("segmentation", "folder", 0.0, "whole"),
        ("segmentation", "dicom", 1.5, "spacing"),
        ("translation", "nifti", 0.0, "proportions"),
        ("anomaly", "npz", 0.0, "whole"),
    ],
)
def test_the_task_decides(task: str, kind: str, spacing: float, view: str) -> None:
    assert views.view_of(task, kind, spacing) == view
