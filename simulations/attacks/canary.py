"""A site that trains on a pattern of its own, told from the others by the direction of its update.

The attacker is the coordinator: it knows the pattern, and draws images from the released generator to learn
where the pattern moves the discriminator. The site whose update points there most is its guess.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from simulations.attacks.exposure import Scene
from simulations.attacks.inversion import gradients
from simulations.attacks.planted import Pattern, planted


def direction(scene: Scene, images: Tensor, labels: Tensor, patterns: Sequence[Pattern]) -> Tensor:
    """Where these patterns move the patients' gradient, [weights]: with them minus without, over images."""
    moved = [
        gradients(scene, planted(part, patterns), label) - gradients(scene, part, label)
        for label in labels.unique().tolist()
        for part in [images[labels == label]]
    ]
    return torch.cat(moved).mean(0)


def cosines(vectors: Sequence[Tensor], along: Tensor) -> Tensor:
    """The cosine of what each site sent, less the mean of the others, with a direction: [sites].

    What all sites have in common tells nothing of any of them.
    """
    sent = torch.stack([vector.flatten().double() for vector in vectors])
    others = (sent.sum(0) - sent) / max(len(sent) - 1, 1)
    return cosine_similarity(sent - others, along.double()[None], dim=1)


def flat(gradient: Sequence[Tensor]) -> Tensor:
    """A gradient's parts one behind the other, float64 [weights]."""
    return torch.cat([part.flatten().double() for part in gradient])
