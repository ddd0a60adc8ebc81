import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.data.transforms import augmentation, prepare, prepare_each
from medgan_core.errors import DataError
from tests.medgan_core.data.making import config, pictures


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([28, 32, 64]),
    st.sampled_from([1, 3]),
    st.sampled_from([(9, 40), (28, 28), (70, 90)]),
    st.booleans(),
)
def test_any_image_comes_out_in_shape_and_range(
    side: int, channels: int, size: tuple[int, int], coloured: bool
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *size, *([3] if coloured else [])), dtype=np.uint8)
    prepared = prepare(images, config("npz", "x", image_size=side, channels=channels), (0, 255))
    assert type(prepared) is torch.Tensor
    assert prepared.shape == (3, channels, side, side)
    assert prepared.dtype == torch.float32
    assert prepared.min() >= -1
    assert prepared.max() <= 1


def test_images_of_the_right_size_are_only_scaled_by_public_constants() -> None:
    images = np.full((600, 28, 28, 1), 255, dtype=np.uint8)
    images[0] = 0
    prepared = prepare(images, config("npz", "x"), (0, 255))
    assert prepared[0].eq(-1).all()
    assert prepared[1:].eq(1).all()
    half = prepare(np.full((1, 28, 28), 0.5), config("npz", "x"), (0, 1))
    assert half.abs().max() < 1e-6


def test_colour_becomes_grey_by_luma_and_shrinking_averages() -> None:
    red = np.zeros((1, 56, 56, 3), dtype=np.uint8)
    red[..., 0] = 255
    assert torch.allclose(prepare(red, config("npz", "x"), (0, 255)), torch.tensor(2 * 0.299 - 1), atol=1e-4)
    board = (np.indices((56, 56)).sum(0) % 2 * 255).astype(np.uint8)[None]
    assert prepare(board, config("npz", "x"), (0, 255)).abs().max() < 1e-3


def test_an_image_does_not_depend_on_the_others_of_its_batch() -> None:
    data = config("npz", "x", image_size=32)
    images = [*pictures(3, 40), *pictures(2, 20), pictures(1, 40, 9)[0]]
    together = prepare_each(iter(images), 6, data, (0, 255))
    apart = torch.cat([prepare(image[None], data, (0, 255)) for image in images])
    assert torch.allclose(together, apart, atol=1e-6)


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(DataError, match="7×30 pixels"):
        prepare(np.zeros((1, 7, 30), dtype=np.uint8), config("npz", "x"), (0, 255))


def test_a_study_that_asks_for_no_variation_gets_none() -> None:
    assert augmentation(config("npz", "x")) is None


@pytest.mark.parametrize("asked", [{"flip": True}, {"rotate_degrees": 20.0}, {"crop_pixels": 3}])
def test_variation_is_a_function_of_the_generator_alone(asked: dict[str, object]) -> None:
    augment = augmentation(config("npz", "x", **asked))
    assert augment is not None
    images = prepare(pictures(8), config("npz", "x"), (0, 255))
    first, again, other = (augment(images, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert type(first) is torch.Tensor
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 1
    if asked == {"flip": True}:
        flipped = [torch.equal(a, b.flip(-1)) for a, b in zip(first, images, strict=True)]
        kept = [torch.equal(a, b) for a, b in zip(first, images, strict=True)]
        assert all(f or k for f, k in zip(flipped, kept, strict=True))


def test_variation_moves_a_mask_with_its_image_and_keeps_it_binary() -> None:
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    disc = torch.where((rows - 12) ** 2 + (columns - 9) ** 2 < 40, 1.0, -1.0)
    images = torch.stack([disc, disc]).repeat(6, 1, 1, 1)
    asked = {"image_size": 32, "flip": True, "rotate_degrees": 25.0, "crop_pixels": 3}
    vary = augmentation(config("folder", "x", masks="m.zip", **asked))
    assert vary is not None
    varied = vary(images, torch.Generator().manual_seed(0))
    assert varied.shape == images.shape
    assert set(varied[:, 1].unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(torch.where(varied[:, 0] > 0, 1.0, -1.0), varied[:, 1])
    assert len({tuple(mask.flatten().tolist()) for mask in varied[:, 1]}) == 6
