"""Gabor magnitudes: the same sums as the textbook's convolution, and blind to phase and to exposure."""

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
    even = gabor.evened(images)
    expected = _textbook(even)
    found = gabor.gabor_magnitudes(images)
    assert torch.allclose(found[:, : expected.shape[1]], expected, atol=1e-5)
    assert torch.allclose(found[:, expected.shape[1] :], functional.avg_pool2d(even, 2).flatten(1))


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


def test_exposure_and_contrast_are_taken_out() -> None:
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    darker = gabor.gabor_magnitudes(0.6 * images + 0.1)
    shown = gabor.gabor_magnitudes(images)
    assert float((darker - shown).norm() / shown.norm()) < 0.2
    even = gabor.evened(images)
    assert torch.allclose(even.mean(dim=(1, 2, 3)), torch.zeros(4), atol=1e-6)
    deviation = images.std(dim=(1, 2, 3), correction=0)
    assert torch.allclose(even.std(dim=(1, 2, 3), correction=0), deviation / (deviation + 0.1), atol=1e-4)


def test_an_image_that_shows_nothing_has_finite_features_and_gradients() -> None:
    blank = torch.full((2, 1, 28, 28), 0.3, requires_grad=True)
    magnitudes = gabor.gabor_magnitudes(blank)
    magnitudes.sum().backward()
    assert float(magnitudes.detach().abs().max()) < 0.1
    assert blank.grad is not None
    assert blank.grad.isfinite().all()
