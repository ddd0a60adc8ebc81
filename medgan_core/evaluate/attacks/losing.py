"""The attack on a network that works on images: it errs less on those that it was trained on.

Yeom et al. 2018, https://arxiv.org/abs/1709.01604, with the difficulty of each image taken off (Watson et al.
2021, https://arxiv.org/abs/2111.08440): half of what the network loses on its mirror image.
"""

import torch
from torch import Tensor, nn

from medgan_core.config import MEAN_SCORES
from medgan_core.evaluate.attacks.bins import BINS
from medgan_core.evaluate.attacks.views import Score, less_mirrored
from medgan_core.gan.outputs import output_scores
from medgan_core.gan.scores import LARGEST_PSNR
from medgan_core.gan.task import PatientTask

_LEAST = 1e-4
_RANGES = {"dice": (0.0, 2.6), "psnr": (0.6, 4.2), "anomaly": (-1.6, 1.0)}
"""From which score to which the bins reach, public constants.

Of images as hard as their mirror images: a Dice of 0 to .99, a PSNR of 5 to 36 dB, and residuals from 24
times to a seventh of the middle one."""


def loss(task: PatientTask, generator: nn.Module) -> Score:
    """The negative logarithm of the error of each image: 1 - Dice, the squared error, or the residual."""

    def score(images: Tensor, labels: Tensor) -> Tensor:
        found = output_scores(task, generator, images.cpu())[:, 0].double()
        if _measure(task) == "psnr":
            return found * LARGEST_PSNR * torch.log(torch.tensor(10.0)) / 10
        if _measure(task) == "dice":
            return -(1 - found).clamp_min(_LEAST).log()
        return -torch.logit(found, eps=_LEAST) / 4

    return less_mirrored(score)


def loss_edges(task: PatientTask) -> Tensor:
    """What divides the scores into bins of equal width, float64 [11]: constants of the task's measure."""
    low, high = _RANGES[_measure(task)]
    return torch.linspace(low, high, BINS + 1, dtype=torch.float64)[1:-1]


def _measure(task: PatientTask) -> str:
    return MEAN_SCORES.get(task.name, ("anomaly",))[0]
