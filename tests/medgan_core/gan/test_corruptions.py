"""What restoration undoes: ranges, codes, and that one image and the stream decide."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medgan_core.gan.corruptions import BLUR, CORRUPTIONS, NOISE, blurred, kernel
from tests.medgan_core.gan.making import random

SINGLE = sorted(set(CORRUPTIONS) - {"mixed"})


def image(channels: int = 1, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(channels, side, side, generator=random(seed)) * 2 - 1


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (1, 64)])
def test_an_image_keeps_its_shape_and_comes_with_one_channel_of_code(
    name: str, channels: int, side: int
) -> None:
    spoiled, code = CORRUPTIONS[name](image(channels, side), random())
    assert spoiled.shape == (channels, side, side)
    assert code.shape == (1, side, side)
    assert spoiled.isfinite().all()
    assert code.min() >= 0
    assert code.max() <= 1


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_the_stream_decides_and_the_image_itself_stays(name: str) -> None:
    given_image = image()
    before = given_image.clone()
    one, same = (CORRUPTIONS[name](given_image, random(7)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert torch.equal(given_image, before)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_noise_is_as_strong_as_its_code(seed: int) -> None:
    spoiled, code = CORRUPTIONS["noise"](torch.zeros(1, 64, 64), random(seed))
    strength = float(code[0, 0, 0])
    assert torch.equal(code, torch.full_like(code, strength))
    assert NOISE[0] <= strength <= NOISE[1]
    assert float(spoiled.std()) == pytest.approx(2 * strength, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_blur_is_as_wide_as_its_code(seed: int) -> None:
    spoiled, code = CORRUPTIONS["blur"](image(), random(seed))
    deviation = float(code[0, 0, 0]) * BLUR[1]
    assert BLUR[0] - 1e-5 <= deviation <= BLUR[1] + 1e-5
    assert (spoiled - blurred(image(), deviation)).std() < 0.03


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), side=st.sampled_from([28, 32, 64]))
def test_holes_are_where_the_code_says_and_nowhere_else(seed: int, side: int) -> None:
    given_image = image(side=side)
    spoiled, hole = CORRUPTIONS["inpaint"](given_image, random(seed))
    assert set(hole.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(spoiled[hole == 0], given_image[hole == 0])
    assert not spoiled[hole == 1].any()
    assert (side // 8) ** 2 <= hole.sum() <= 3 * (side // 4) ** 2


@pytest.mark.parametrize(("name", "factor"), [("superres2", 2), ("superres4", 4)])
def test_resolution_is_lost_and_the_mean_kept(name: str, factor: int) -> None:
    spoiled, code = CORRUPTIONS[name](image(), random())
    assert torch.equal(code, torch.full_like(code, 1 / factor))
    assert float(spoiled.mean()) == pytest.approx(float(image().mean()), abs=0.02)
    assert spoiled.var() < image().var() / factor
    flat = torch.full((1, 32, 32), 0.3)
    assert torch.allclose(CORRUPTIONS[name](flat, random())[0], flat, atol=1e-5)


def test_mixed_is_each_of_the_others_at_times() -> None:
    found = [CORRUPTIONS["mixed"](image(), random(seed)) for seed in range(60)]
    codes = [float(code.mean()) if code.std() == 0 else -1.0 for _, code in found]
    assert codes.count(0.5) >= 3
    assert codes.count(0.25) >= 3
    assert codes.count(-1.0) >= 3  # holes
    assert sum(NOISE[0] <= code <= NOISE[1] for code in codes) >= 3
    assert sum(0.4 <= code <= 1 and code != 0.5 for code in codes) >= 3


@pytest.mark.parametrize("deviation", [0.8, 1.3, 2.0])
def test_the_kernel_is_a_gaussian_of_sum_one(deviation: float) -> None:
    line = kernel(deviation).double()
    places = torch.arange(len(line)) - len(line) // 2
    assert float(line.sum()) == pytest.approx(1)
    assert float((line * places**2).sum().sqrt()) == pytest.approx(deviation, rel=0.03)
    assert torch.equal(line, line.flip(0))
