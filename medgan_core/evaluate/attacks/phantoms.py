"""Drawings that show nobody: what the twin of a network that works on images is trained on."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from medgan_core.gan.task import PatientTask

_COARSE, _FINE = 8, 0.1


def phantoms(task: PatientTask, count: int, random: torch.Generator) -> Tensor:
    """Smooth random blobs with a little noise, [n, c, h, w] in [-1, 1]; a mask is 1 inside of its own.

    No channel says anything of another, so that what a network makes of one it can only know by heart.
    """
    channels, height, width = task.image_shape
    coarse = torch.randn(count, channels, _COARSE, _COARSE, generator=random)
    blobs = interpolate(coarse, (height, width), mode="bilinear", align_corners=True)
    images = torch.tanh(blobs + _FINE * torch.randn(blobs.shape, generator=random))
    if task.name == "segmentation":
        images[:, -1] = torch.where(blobs[:, -1] > 0, 1.0, -1.0)
    return images
