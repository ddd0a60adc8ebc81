"""Images that nobody was trained on, made of synthetic ones: by them the bins of a score are divided.

Scores have no scale that is known beforehand, and a real image may not decide on one. What a synthetic image
scores says little of it, since a generator draws its own images well. A stand-in adds to the mean what one
synthetic image and the mirror image of another differ from it, divided by √2: it has about their mean and
spread, and is no image of the generator's. On PneumoniaMNIST real images that a
generator never saw fall about evenly into bins of equally many stand-ins, under all four attacks.
"""

import math

import torch
from torch import Tensor

from medgan_core.evaluate.attacks.bins import BINS
from medgan_core.evaluate.attacks.views import mirrored


def stand_ins(images: Tensor, labels: Tensor, random: torch.Generator) -> Tensor:
    """One for each of these synthetic images [n, c, h, w] in [-1, 1], of its label; `random` pairs them."""
    made = torch.empty_like(images)
    for label in labels.unique().tolist():
        chosen = (labels == label).nonzero()[:, 0]
        own = images[chosen]
        other = mirrored(own[torch.randperm(len(own), generator=random).to(own.device)])
        mean = own.mean(dim=0)
        made[chosen] = mean + (own + other - 2 * mean) / math.sqrt(2)
    return made.clamp(-1, 1)


def edges_of(scores: Tensor) -> Tensor:
    """What divides scores [n] into bins of equally many, float64 [11], ascending and finite."""
    shares = torch.arange(1, BINS, dtype=torch.float64) / BINS
    return scores.double().nan_to_num(0.0).clamp(-1e6, 1e6).quantile(shares)
