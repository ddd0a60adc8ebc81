"""Classical restoration undoes what it is made for, with what it knows and what it chose."""

import pytest
import torch
from torch import Tensor

from medgan_core.gan.corruptions import CORRUPTIONS
from medgan_core.gan.scores import psnr

pytest.importorskip("skimage", reason="scikit-image is not installed")

from simulations.benchmarks.tasks.classical import CLASSICAL, SETTINGS, Restorer

EVERY = [(corruption, name) for corruption, methods in CLASSICAL.items() for name in methods]


def rows(corruption: str, seed: int, count: int = 6) -> tuple[Tensor, Tensor]:
    """Spoiled images of smooth blobs with their codes, and the images."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 5, 5, generator=random) * 1.6 - 0.8
    images = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(-1, 1)
    spoiled = [torch.cat(CORRUPTIONS[corruption](image, random)) for image in images]
    return torch.stack(spoiled), images


@pytest.mark.parametrize(("corruption", "name"), EVERY)
def test_a_method_brings_an_image_nearer_to_its_reference(corruption: str, name: str) -> None:
    restorer = Restorer(name, CLASSICAL[corruption][name], *rows(corruption, 0))
    inputs, images = rows(corruption, 1)
    made = restorer(inputs)
    assert made.shape == images.shape
    assert made.abs().max() <= 1
    gain = (psnr(made, images) - psnr(inputs[:, :1].clamp(-1, 1), images)).mean()
    assert gain > (2 if corruption in ("noise", "inpaint") else 0) or name == "bicubic"


@pytest.mark.parametrize(("corruption", "name"), EVERY)
def test_settings_are_those_that_are_best_on_what_is_given(corruption: str, name: str) -> None:
    inputs, images = rows(corruption, 0)
    restorer = Restorer(name, CLASSICAL[corruption][name], inputs, images)
    assert len(restorer.settings) == 3
    tried = SETTINGS.get(name, {})
    assert all(setting.keys() == tried.keys() for setting in restorer.settings)
    for choice in (values[0] for values in tried.values()):
        fixed = Restorer(name, CLASSICAL[corruption][name], inputs, images)
        fixed.settings = [dict.fromkeys(tried, choice)] * 3
        assert psnr(restorer(inputs), images).mean() >= psnr(fixed(inputs), images).mean() - 1e-6
