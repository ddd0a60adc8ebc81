"""First guesses of what was lost, so that a network need not learn what is known: each of one image alone."""

from collections.abc import Callable, Mapping
from math import ceil, pi

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from medgan_core.gan.corruptions import BLUR

_STEPS = 50
_TINY = 1e-20
_BALANCE = 0.005
_RADIUS = ceil(3 * BLUR[1])
_MARGIN = 2 * _RADIUS


def holes_of(code: Tensor) -> Tensor:
    """Where an image has holes, bool [b, 1, h, w]: where its code is 1, unless it is the same everywhere.

    A constant code says how strong a corruption of the whole image is.
    """
    varies = code.flatten(1).amax(1) > code.flatten(1).amin(1)
    return (code == 1) & varies[:, None, None, None]


def without_holes(images: Tensor, code: Tensor) -> Tensor:
    """Images [b, c, h, w] with codes [b, 1, h, w], their holes filled."""
    return filled(images, holes_of(code))


def deblurred(images: Tensor, code: Tensor) -> Tensor:
    """Wiener's filter with the Gaussian that the code names, against a Laplacian; edges are mirrored.

    Orieux et al. 2010, https://arxiv.org/abs/1009.2880, section 2; its balance is a public constant.
    """
    margin = min(_MARGIN, min(images.shape[2:]) - 1)
    wide = pad(images.float(), (margin,) * 4, mode="reflect")
    rows, columns = (torch.fft.fftfreq(n, device=images.device) for n in wide.shape[2:])
    deviation = (code[:, 0, :1, :1] * BLUR[1]).float().clamp_min(1e-3)
    passed = (_gaussian(rows, deviation)[:, :, None] * _gaussian(columns, deviation)[:, None])[:, None]
    rough = 4 - 2 * torch.cos(2 * pi * rows)[:, None] - 2 * torch.cos(2 * pi * columns)
    undo = passed / (passed.square() + _BALANCE * rough.square()).clamp_min(1e-6)
    made: Tensor = torch.fft.ifft2(torch.fft.fft2(wide) * undo).real
    return made[:, :, margin:-margin, margin:-margin].to(images.dtype)


def _gaussian(frequencies: Tensor, deviation: Tensor) -> Tensor:
    """What of each frequency [n] passes the kernels of `corruptions.kernel` of these deviations [b, 1, 1]."""
    places = torch.arange(-_RADIUS, _RADIUS + 1, device=frequencies.device)
    line = torch.exp(-places.square() / (2 * deviation**2)) * (places.abs() <= (3 * deviation).ceil())
    waves = torch.cos(2 * pi * frequencies[:, None] * places)
    return (waves * line).sum(2) / line.sum(2)


def filled(images: Tensor, holes: Tensor) -> Tensor:
    """Images [b, c, h, w] whose holes are filled from around them, as smoothly as may be.

    From coarse to fine (Gortler et al. 1996, "The Lumigraph", section 3.4, pull and push), then by steps of
    conjugate gradients towards the least squared Laplacian, the biharmonic solution.
    """
    known = (~holes).to(images.dtype)
    start = _pulled(images * known, known)
    found = torch.zeros_like(start)
    left = direction = holes * -_bent(start)
    size = _dot(left, left)
    for _ in range(_STEPS):
        bent = holes * _bent(direction)
        step = size / _dot(direction, bent).clamp_min(_TINY)
        found, left = found + step * direction, left - step * bent
        before, size = size, _dot(left, left)
        direction = left + size / before.clamp_min(_TINY) * direction
    return torch.where(holes, start + found, images)


def _bent(images: Tensor) -> Tensor:
    """The Laplacian of the Laplacian, up to a factor."""
    once = images - _around(images)
    return once - _around(once)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((1, 2, 3), keepdim=True)


def _pulled(images: Tensor, known: Tensor) -> Tensor:
    """Images that are 0 where they are not `known` [b, 1, h, w], filled there from half their resolution."""
    if min(images.shape[2:]) <= 2:
        total = known.sum((2, 3), keepdim=True).clamp_min(1)
        rest = images.sum((2, 3), keepdim=True) / total
    else:
        share = avg_pool2d(known, 2, ceil_mode=True)
        means = avg_pool2d(images, 2, ceil_mode=True) / share.clamp_min(1e-6)
        coarse = (share > 0).to(images.dtype)
        rest = interpolate(_pulled(means * coarse, coarse), size=images.shape[2:], mode="bilinear")
    return images + rest * (1 - known)


def _around(images: Tensor) -> Tensor:
    """The mean of a pixel's four neighbours; edges are repeated."""
    cross = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]) / 4
    kernel = cross.to(images).expand(images.shape[1], 1, 3, 3)
    return conv2d(pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=images.shape[1])


GUESSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "inpaint": without_holes,
    "mixed": without_holes,
    "blur": deblurred,
}
"""What is done to images with their codes, by the corruption, before a network sees them."""
