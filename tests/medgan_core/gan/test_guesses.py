"""First guesses: where holes are and what is put into them, and what of a blur a filter undoes."""

import pytest
import torch

from medgan_core.gan.corruptions import CORRUPTIONS
from medgan_core.gan.guesses import GUESSES, deblurred, filled, holes_of
from medgan_core.gan.scores import psnr
from tests.medgan_core.gan.making import random


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"mixed"}))
def test_holes_alone_are_holes(name: str) -> None:
    image = torch.rand(1, 32, 32, generator=random())
    _, code = CORRUPTIONS[name](image, random())
    expected = code == 1 if name == "inpaint" else torch.zeros_like(code, dtype=torch.bool)
    assert torch.equal(holes_of(code[None])[0], expected)
    assert not holes_of(torch.ones(1, 1, 8, 8)).any()


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (1, 64)])
def test_a_guess_fills_holes_from_around_them_and_leaves_the_rest(channels: int, side: int) -> None:
    ramp = torch.linspace(-1, 1, side).expand(2, channels, side, side)
    code = torch.stack([CORRUPTIONS["inpaint"](ramp[0], random(seed))[1] for seed in range(2)])
    holes = holes_of(code)
    made = filled(torch.where(holes, 0.0, ramp), holes)
    assert torch.equal(torch.where(holes, 0.0, made), torch.where(holes, 0.0, ramp))
    assert (made - ramp).abs().max() < 0.3
    assert (made - ramp).abs().mean() < 0.01


def test_each_image_is_filled_alone() -> None:
    images = torch.rand(3, 1, 32, 32, generator=random())
    code = torch.stack([CORRUPTIONS["inpaint"](image, random(5))[1] for image in images])
    code[1] = 0.5
    holes = holes_of(code)
    together = filled(images, holes)
    alone = torch.cat([filled(*one) for one in zip(images.split(1), holes.split(1), strict=True)])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.equal(together[1], images[1])


def smooth(count: int, side: int = 32) -> torch.Tensor:
    coarse = torch.rand(count, 1, 8, 8, generator=random()) * 1.6 - 0.8
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(-1, 1)


@pytest.mark.parametrize("side", [28, 64])
def test_a_known_blur_is_undone_in_part(side: int) -> None:
    images = smooth(6, side)
    rows = [CORRUPTIONS["blur"](image, random(seed)) for seed, image in enumerate(images)]
    spoiled, code = (torch.stack(part) for part in zip(*rows, strict=True))
    assert (psnr(deblurred(spoiled, code), images) - psnr(spoiled, images)).mean() > 1
    flat = torch.full((6, 1, side, side), 0.25)
    assert torch.allclose(deblurred(flat, code), flat, atol=1e-4)


@pytest.mark.parametrize("name", sorted(GUESSES))
def test_a_guess_is_of_each_image_alone(name: str) -> None:
    rows = [CORRUPTIONS[name](image, random(seed)) for seed, image in enumerate(smooth(3))]
    spoiled, code = (torch.stack(part) for part in zip(*rows, strict=True))
    together = GUESSES[name](spoiled, code)
    pairs = zip(spoiled.split(1), code.split(1), strict=True)
    assert together.shape == spoiled.shape
    assert torch.allclose(together, torch.cat([GUESSES[name](*pair) for pair in pairs]), atol=1e-5)
