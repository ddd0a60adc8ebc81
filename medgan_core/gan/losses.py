"""Adversarial losses by name; each gives one value per example, [b], from scores [b].

`non_saturating`: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, section 3. `hinge`: Lim and Ye
2017, https://arxiv.org/abs/1705.02894. `least_squares`: Mao et al. 2017, https://arxiv.org/abs/1611.04076,
eq. 9. `wasserstein`: Arjovsky, Chintala, Bottou 2017, https://arxiv.org/abs/1701.07875, algorithm 1, whose
discriminator is a critic of bounded weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from torch import Tensor
from torch.nn.functional import relu, softplus

PerExample = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AdversarialLoss:
    """What the discriminator pays for reals and for fakes, and what the generator pays for its fakes.

    Scores below `boundary` call an image a fake. After each of its steps the discriminator's weights are cut
    to ±`weight_bound`, so that its slope is bounded: of weights that are private already, at no cost.
    """

    real: PerExample
    fake: PerExample
    generator: PerExample
    boundary: float = 0.0
    weight_bound: float = inf


LOSSES: dict[str, AdversarialLoss] = {
    "non_saturating": AdversarialLoss(
        real=lambda scores: softplus(-scores),
        fake=softplus,
        generator=lambda scores: softplus(-scores),
    ),
    "hinge": AdversarialLoss(
        real=lambda scores: relu(1 - scores),
        fake=lambda scores: relu(1 + scores),
        generator=lambda scores: -scores,
    ),
    "least_squares": AdversarialLoss(
        real=lambda scores: (scores - 1).square() / 2,
        fake=lambda scores: scores.square() / 2,
        generator=lambda scores: (scores - 1).square() / 2,
        boundary=0.5,
    ),
    "wasserstein": AdversarialLoss(
        real=lambda scores: -scores,
        fake=lambda scores: scores,
        generator=lambda scores: -scores,
        weight_bound=0.05,
    ),
}
