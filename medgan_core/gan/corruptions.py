"""What restoration undoes: each corruption takes one image and returns it spoiled, with a code of how.

Images are [c, h, w] in [-1, 1]; a code [1, h, w] tells the generator what happened, where, and how much.
Strengths are drawn anew for every image.
"""

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

Corruption = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
NOISE = (0.05, 0.2)
"""Standard deviation of the noise, as a share of the range of 2."""
BLUR = (0.8, 2.0)
"""Standard deviation of the blur, in pixels."""
GRAIN = 0.01
"""Noise on a blurred image, as a share of the range: no detector is without."""


def noise(image: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """White Gaussian noise."""
    strength = _between(*NOISE, random)
    return image + 2 * strength * torch.randn(image.shape, generator=random), _coded(image, strength)


def blur(image: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A Gaussian blur and a little grain."""
    deviation = _between(*BLUR, random)
    grain = 2 * GRAIN * torch.randn(image.shape, generator=random)
    return blurred(image, deviation) + grain, _coded(image, deviation / BLUR[1])


def inpaint(image: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """One to three holes, each with sides of an eighth to a quarter of the image's; the code is where."""
    hole = torch.zeros(1, *image.shape[1:])
    side = image.shape[-1]
    for _ in range(int(torch.randint(1, 4, (), generator=random))):
        tall, wide = torch.randint(side // 8, side // 4 + 1, (2,), generator=random).tolist()
        top = int(torch.randint(0, side - tall + 1, (), generator=random))
        left = int(torch.randint(0, side - wide + 1, (), generator=random))
        hole[:, top : top + tall, left : left + wide] = 1
    return image * (1 - hole), hole


def superres2(image: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Half the resolution, brought back to the image's size by bicubic interpolation."""
    return _coarse(image, 2), _coded(image, 0.5)


def superres4(image: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """A quarter of the resolution, brought back to the image's size by bicubic interpolation."""
    return _coarse(image, 4), _coded(image, 0.25)


def mixed(image: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """One of the others, by chance."""
    chosen = int(torch.randint(0, len(_SINGLE), (), generator=random))
    return list(_SINGLE.values())[chosen](image, random)


_SINGLE: dict[str, Corruption] = {
    "noise": noise,
    "blur": blur,
    "inpaint": inpaint,
    "superres2": superres2,
    "superres4": superres4,
}
CORRUPTIONS: dict[str, Corruption] = {**_SINGLE, "mixed": mixed}


def blurred(image: Tensor, deviation: float) -> Tensor:
    """A Gaussian blur of this standard deviation in pixels; edges are mirrored."""
    line = kernel(deviation)
    radius = len(line) // 2
    rows = pad(image[:, None], (radius, radius, radius, radius), mode="reflect")
    return conv2d(conv2d(rows, line.view(1, 1, 1, -1)), line.view(1, 1, -1, 1))[:, 0]


def kernel(deviation: float) -> Tensor:
    """The Gaussian on whole pixels out to three deviations, of sum 1."""
    radius = ceil(3 * deviation)
    line = torch.exp(-torch.arange(-radius, radius + 1).float().square() / (2 * deviation**2))
    return line / line.sum()


def _coarse(image: Tensor, factor: int) -> Tensor:
    small = avg_pool2d(image[None], factor)
    return interpolate(small, size=tuple(image.shape[1:]), mode="bicubic", align_corners=False)[0]


def _coded(image: Tensor, value: float) -> Tensor:
    return torch.full((1, *image.shape[1:]), value)


def _between(low: float, high: float, random: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=random))
