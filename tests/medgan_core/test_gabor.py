"""Gabor magnitudes: the same sums as the textbook's convolution, and blind to phase."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medgan_core import gabor


def _textbook(images: Tensor) -> Tensor:
    waves = functional.conv2d(images, gabor._filters(), padding=4)
    magnitude = (waves[:, 0::2].square() + waves[:, 1::2].square() + 1e-6).sqrt()
    return functional.avg_pool2d(magnitude, 4).flatten(1) * 2


@pytest.mark.parametrize("sides", [(28, 28), (32, 32), (12, 8)])
def test_the_blocked_convolution_is_the_textbooks(sides: tuple[int, int]) -> None:
    images = torch.rand(3, 1, *sides, generator=torch.Generator().manual_seed(1))
    expected = _textbook(images)
    found = gabor.gabor_magnitudes(images)
    assert torch.allclose(found[:, : expected.shape[1]], expected, atol=1e-5)
    assert torch.allclose(found[:, expected.shape[1] :], functional.avg_pool2d(images, 2).flatten(1))


def test_a_wave_answers_its_own_filter_whatever_its_phase() -> None:
    along = torch.arange(32.0)
    answers = []
    for phase in (0.0, 1.0, 2.0):
        image = (torch.cos(2 * math.pi * along / 6 + phase) / 2 + 0.5).expand(1, 1, 32, 32)
        magnitudes = gabor.gabor_magnitudes(image)[:, : 16 * 64].view(16, 8, 8)[:, 2:6, 2:6].mean((1, 2))
        assert int(magnitudes.argmax()) == 8  # the first orientation of the second wavelength
        answers.append(magnitudes[8])
    assert float(torch.stack(answers).std()) < 0.02 * float(torch.stack(answers).mean())


def test_colours_are_averaged() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    grey = images.mean(1, keepdim=True)
    assert torch.allclose(gabor.gabor_magnitudes(images), gabor.gabor_magnitudes(grey))
