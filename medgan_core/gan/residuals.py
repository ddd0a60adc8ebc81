"""How abnormal an image is by what its texture leaves over beside the same image drawn again.

Logarithms of Gabor magnitudes, which no data taught: they see texture, whatever the contrast of an image.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from medgan_core.gabor import magnitude_maps
from medgan_core.gan.adversaries import mean_of

_FAINT = 0.02
"""A magnitude of Gabor filters that hardly counts: a flat part has no texture to compare."""
_MIDDLE, _SHARPNESS = 0.3, 4.0
"""The mean squared residual that is told as a probability of .5, and log-odds for each unit of its logarithm.

Public constants: one bin of the sites' histogram is a quarter of a unit, so that its 20 bins reach from a
twelfth of the middle to the twelvefold. The probability orders images; it is not calibrated."""


def abnormal_map(images: Tensor, drawn: Tensor) -> Tensor:
    """Where images [b, c, h, w] differ from those drawn again: [b, 1, h, w], from -1 to 1."""
    residual = interpolate(_residual(images, drawn), images.shape[2:], mode="bilinear")
    return 2 * residual / (residual + _MIDDLE) - 1


def abnormal_probability(images: Tensor, drawn: Tensor) -> Tensor:
    """The probability that images [b, c, h, w] are abnormal, [b], by those drawn again."""
    residual = mean_of(_residual(images, drawn).double())
    return torch.sigmoid(_SHARPNESS * torch.log(residual.clamp_min(1e-12) / _MIDDLE))


def _residual(images: Tensor, drawn: Tensor) -> Tensor:
    """How far texture is from what was drawn, [b, c, h, w] to [b, 1, h/4, w/4]."""
    return (_textures(images) - _textures(drawn)).square().mean(1, keepdim=True)


def _textures(images: Tensor) -> Tensor:
    """Logarithms of the Gabor magnitudes of each channel, [b, 16 c, h/4, w/4]."""
    maps = magnitude_maps((images.flatten(0, 1)[:, None] + 1) / 2)
    return torch.log(maps + _FAINT).reshape(-1, images.shape[1] * maps.shape[1], *maps.shape[2:])
