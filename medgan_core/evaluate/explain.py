"""Where an image says what a network makes of it: how a score falls when parts of the image are covered.

Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901, section 4.3, by MONAI's OcclusionSensitivity. A map
is as private as its image.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

_PARTS = 7
"""A covered square is a seventh of a side: four pixels of 28, nine of 64."""


def occlusion_maps(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """How much `score` [b, c, h, w] → [b] falls where images [n, c, h, w] are covered, [n, 1, h, w].

    In [-1, 1], above 0 where a part speaks for a high score; each map is divided by its own largest value. A
    part is covered by the image's mean (MONAI's "mean_patch" multiplies by it instead of filling it in).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.visualize.occlusion_sensitivity import OcclusionSensitivity
    size = round(images.shape[-1] / _PARTS)
    measure = OcclusionSensitivity(
        _Score(score), mask_size=size, n_batch=64, verbose=False, mode="mean_img", overlap=0.5, activate=False
    )
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how MONAI itself indexes
        covered = torch.cat([torch.as_tensor(measure(image[None])[0]) for image in images])
    fall = score(images)[:, None, None, None] - covered[:, :1].reshape(len(images), 1, *images.shape[2:])
    return fall / fall.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)


class _Score(nn.Module):
    """A function of images as a network of one output, which MONAI asks for."""

    def __init__(self, score: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.score = score

    def forward(self, images: Tensor) -> Tensor:
        """Scores [b, 1]."""
        return self.score(images)[:, None]
