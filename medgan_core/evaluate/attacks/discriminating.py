"""The attack of whoever saw the discriminators: they take for real what they were trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medgan_core.evaluate.attacks.views import OFF, Score, moved

MOST = 4
SCALE = 3.0


def discriminator(networks: Sequence[nn.Module], fakes: Tensor, labels: Tensor) -> Score:
    """The mean over discriminators of an image's score in units of the scores of `fakes` with these labels.

    LOGAN (Hayes et al. 2019, https://doi.org/10.2478/popets-2019-0008, white box). Half of what the image
    gets when it is moved by a pixel is taken off; the inverse hyperbolic sine keeps one network from drowning
    the others. Those of the later half of the rounds are asked, the last and at most three more: what they
    remember grows with every round. Without any the score is 0.
    """
    scales = [_scale(network, fakes, labels) for network in _spread(networks)]

    def score(images: Tensor, labels: Tensor) -> Tensor:
        total = torch.zeros(len(images), device=images.device)
        for network, (middle, deviation) in zip(_spread(networks), scales, strict=True):
            around = torch.stack([network(view, labels) for view in moved(images)]).mean(dim=0)
            told = network(images, labels) - OFF * around - (1 - OFF) * middle
            total = total + torch.asinh(SCALE * told.float() / deviation)
        return total / max(len(scales), 1)

    return score


def _scale(network: nn.Module, fakes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    scores = network(fakes, labels).float()
    return scores.median(), scores.std().clamp_min(1e-6)


def _spread(networks: Sequence[nn.Module]) -> list[nn.Module]:
    """Those that are asked, from late to early at equal distances."""
    later = networks[::-1][: -(-len(networks) // 2)]
    return list(later[:: max(-(-len(later) // MOST), 1)])
