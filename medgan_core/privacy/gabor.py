"""Magnitudes of Gabor filters: fixed texture features that know nothing of any data.

Daugman 1985, JOSA A 2(7): quadrature pairs of oriented waves under a Gaussian window; their magnitude tells
how much of a wavelength and an orientation is somewhere, whatever its phase.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

_ORIENTATIONS, _WAVELENGTHS, _SIDE, _POOL = 8, (3.0, 6.0), 9, 4


def gabor_magnitudes(images: Tensor) -> Tensor:
    """Images [n, c, h, w] in [0, 1], at least 8 pixels a side, to pooled magnitudes and pixels, [n, g].

    Colours are averaged. 16 filters of 9×9, magnitudes averaged over 4×4 and scaled by 2, joined with the
    pixels averaged over 2×2.
    """
    grey = images.mean(dim=1, keepdim=True)
    waves = functional.conv2d(grey, _filters().to(grey.dtype), padding=_SIDE // 2)
    magnitude = (waves[:, 0::2].square() + waves[:, 1::2].square() + 1e-6).sqrt()
    pooled = functional.avg_pool2d(magnitude, _POOL).flatten(1) * (_POOL / 2)
    return torch.cat([pooled, functional.avg_pool2d(grey, 2).flatten(1)], dim=1)


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
