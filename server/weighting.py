"""How much each direction of the features counts while a generator is matched to the released embedding.

Hansen 1982, "Large Sample Properties of Generalized Method of Moments Estimators" (Econometrica 50): moments
are matched best where each direction counts by the inverse of the variance with which it was measured. Images
of a class differ much along a few directions, of which its mean is therefore the least certain, and which
would rule a plain distance; what tells classes apart is small beside them. As in his second step the
covariance is that of the model's own draws: fakes of released values, so that it costs no privacy.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from medgan_core.gan.steps import balanced_labels
from medgan_core.gan.task import SynthesisTask
from medgan_core.privacy.embedding import Embedding

_FAKES, _PART = 1200, 120
_DIRECTIONS = 200
_LEAST_VARIANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Weighting:
    """(Σ/v + 1)^-½ along the directions in which fakes differ the most, 1 along all others.

    `directions` [d, r] are orthonormal, `scales` [r] in (0, 1).
    """

    directions: Tensor
    scales: Tensor

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, variance: float) -> Self:
        """Of fakes' features [n, d], whose covariance within classes is Σ; v is `variance`, above 0."""
        hot = nn.functional.one_hot(labels).to(features.dtype)
        means = hot.T @ features / hot.sum(0)[:, None].clamp_min(1)
        apart = (features - means[labels]) / math.sqrt(max(len(features) - hot.shape[1], 1))
        found, mixes = torch.linalg.eigh(apart @ apart.T)  # of pairs of fakes: fewer than features
        kept = (found > variance / 100).nonzero().flatten().flip(0)[:_DIRECTIONS]
        found, mixes = found[kept], mixes[:, kept]
        return cls(apart.T @ mixes / found.sqrt(), (variance / (found + variance)).sqrt())

    def __call__(self, features: Tensor) -> Tensor:
        """Features [n, d], each direction scaled; gradients flow."""
        return features - (features @ self.directions * (1 - self.scales)) @ self.directions.T


def noise_variance(embedding: Embedding, deviation: float, count_weight: float) -> float:
    """What noise of this deviation in the released sum adds to the variance of one patient's features.

    Averaged over a class of usual size the one is as uncertain as the other. At least 0.001: with less, steps
    follow directions in which a batch of fakes says hardly anything.
    """
    return _LEAST_VARIANCE + deviation**2 * (1 + count_weight**2) / float(embedding.counts.mean())


@torch.no_grad()
def weighting_of(
    task: SynthesisTask,
    generator: nn.Module,
    features: Callable[[Tensor], Tensor],
    variance: float,
    random: torch.Generator,
) -> Weighting:
    """The weighting by fakes of the generator as it is, all classes alike."""
    labels = balanced_labels(_FAKES, len(task.classes)).to(next(generator.parameters()).device)
    found = [features(task.sample(generator, part, random)) for part in labels.split(_PART)]
    return Weighting.of(torch.cat(found), labels, variance)
