"""An image's own neighbours, by which an attack's score of it is made free of scale.

That an image is far from everything synthetic says more of the image than of who was trained on: it is
unusual, and so are its mirror image and the image moved by a pixel. What a generator remembers, it remembers
of the image as it is. Half of what the neighbours get is taken off: with all of it nothing would be left of a
generator trained on mirrored views, with none of it images differ by how usual they are. On PneumoniaMNIST
half is also what tells members best, for each of the attacks.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

Score = Callable[[Tensor, Tensor], Tensor]
"""Images [n, c, h, w] in [-1, 1] and labels [n] to one number each, [n], higher for members."""
OFF = 0.5
_SIDES, _NUMBERS = (32, 16, 8), 4096


def mirrored(images: Tensor) -> Tensor:
    """Left and right changed places."""
    return images.flip(3)


def moved(images: Tensor) -> tuple[Tensor, ...]:
    """The images moved by one pixel to all four sides; the edge is repeated."""
    height, width = images.shape[2:]
    wider = pad(images, (1, 1, 1, 1), mode="replicate")
    offsets = ((0, 1), (2, 1), (1, 0), (1, 2))
    return tuple(wider[:, :, y : y + height, x : x + width] for y, x in offsets)


def less_mirrored(score: Score) -> Score:
    """A score, less half of what the mirror image gets."""

    def calibrated(images: Tensor, labels: Tensor) -> Tensor:
        return score(images, labels) - OFF * score(mirrored(images), labels)

    return calibrated


def small(images: Tensor) -> Tensor:
    """What images are compared by, [n, k]: their pixels, averaged down to 32 a side, fewer of many channels.

    On PneumoniaMNIST pixels tell members of an overfitted generator better (AUC .72) than the features of
    `evaluate.features` do (.61), which forget where something is.
    """
    channels, side = images.shape[1], images.shape[-1]
    most = next((s for s in _SIDES if channels * s**2 <= _NUMBERS), _SIDES[-1])
    less = adaptive_avg_pool2d(images, most) if side > most else images
    return torch.as_tensor(less.flatten(1).float())
