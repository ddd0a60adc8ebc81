"""Magnitudes of Gabor filters: fixed texture features that know nothing of any data.

Daugman 1985, JOSA A 2(7): quadrature pairs of oriented waves under a Gaussian window; their magnitude tells
how much of a wavelength and an orientation is somewhere, whatever its phase. Brightness and contrast of the
whole image are taken out first, as Coates, Lee, Ng 2011 (AISTATS, section 3.1.1) do for patches: exposure
differs more between images than what they show.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

_ORIENTATIONS, _WAVELENGTHS, _SIDE, _POOL = 8, (3.0, 6.0), 9, 4
_LEAST_CONTRAST = 0.1


def gabor_magnitudes(images: Tensor) -> Tensor:
    """Images [n, c, h, w] in [0, 1], sides divisible by 4, to pooled magnitudes and pixels, [n, g].

    Colours are averaged, and contrast is evened. The magnitudes of `magnitude_maps`, joined with the pixels
    averaged over 2×2.
    """
    grey = evened(images.mean(dim=1, keepdim=True))
    return torch.cat([magnitude_maps(grey).flatten(1), functional.avg_pool2d(grey, 2).flatten(1)], dim=1)


def evened(images: Tensor) -> Tensor:
    """Images [n, c, h, w], each less its mean and over its standard deviation, to which 0.1 is added.

    What is added keeps the noise of an image that shows nothing from being blown up.
    """
    apart = images - images.mean(dim=(1, 2, 3), keepdim=True)
    deviation = (apart.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-6).sqrt()
    return apart / (deviation + _LEAST_CONTRAST)


def magnitude_maps(grey: Tensor) -> Tensor:
    """Grey images [n, 1, h, w] in [0, 1], sides divisible by 4, to magnitudes [n, 16, h/4, w/4].

    Of 16 filters of 9×9, averaged over 4×4 and scaled by 2.
    """
    blocks, filters = functional.pixel_unshuffle(grey, _POOL), _blocked_filters().to(grey)
    waves = functional.conv2d(blocks, filters, padding=1)
    quadratures = waves.unflatten(1, (-1, 2, _POOL**2))
    magnitude: Tensor = (quadratures.square().sum(2) + 1e-6).sqrt()
    return magnitude.mean(2) * (_POOL / 2)


@lru_cache(maxsize=1)
def _blocked_filters() -> Tensor:
    """The filters for images whose 4×4 blocks are channels: [2 × orientations × wavelengths × 16, 16, 3, 3].

    A 9×9 filter reaches exactly the neighbouring blocks. The same sums as a convolution of the pixels, but
    with many channels on a small grid, which processors do about three times as fast in the backward pass.
    """
    padded = functional.pad(_filters()[:, 0], (_POOL,) * 4)
    here, block = torch.arange(_POOL), torch.arange(3) - 1
    tap = block[None, None, :] * _POOL + here[None, :, None] - here[:, None, None] + _SIDE // 2 + _POOL
    weights = padded[:, tap[:, None, :, None, :, None], tap[None, :, None, :, None, :]]
    return weights.reshape(-1, _POOL**2, 3, 3)


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    """[2 × orientations × wavelengths, 1, side, side], cosine and sine in turn, mean 0 and norm 1."""
    steps = torch.arange(_SIDE, dtype=torch.float64) - _SIDE // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    filters = []
    for wavelength in _WAVELENGTHS:
        window = torch.exp(-(x**2 + y**2) / (2 * (wavelength / 2) ** 2))
        for orientation in range(_ORIENTATIONS):
            angle = math.pi * orientation / _ORIENTATIONS
            along = x * math.cos(angle) + y * math.sin(angle)
            for phase in (0.0, math.pi / 2):
                wave = window * torch.cos(2 * math.pi * along / wavelength + phase)
                wave = wave - wave.mean()
                filters.append(wave / wave.norm())
    return torch.stack(filters)[:, None].float()
