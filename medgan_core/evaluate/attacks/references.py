"""Synthetic images that attacks compare a real one with, drawn from the released generator alone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from medgan_core.evaluate.attacks.views import small
from medgan_core.gan.task import SynthesisTask

OF_A_LABEL, AT_MOST = 2000, 8000
_LEAST_OF_A_LABEL, _NUMBERS = 128, 2**24
_NUMBERS_AT_ONCE = 2**18
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class References:
    """Synthetic images of each label with the latents that they were drawn from.

    `points` [K, m, k] are the images as `views.small` gives them, `latents` [K, m, z].
    """

    points: Tensor
    latents: Tensor

    def distances(self, points: Tensor, labels: Tensor) -> Tensor:
        """Of points [n, k] to all references of their own labels, [n, m] > 0."""
        found = points.new_empty(len(points), self.points.shape[1])
        for label in labels.unique().tolist():
            chosen = labels == label
            found[chosen] = torch.cdist(points[chosen], self.points[label])
        return found.clamp_min(_LEAST)


@torch.no_grad()
def draw_references(
    task: SynthesisTask, generator: nn.Module, random: RandomGenerator, device: torch.device
) -> References:
    """At most 2,000 of each label and 8,000 in all, fewer of large images.

    `random` is on the CPU, so that all devices draw alike.
    """
    classes = len(task.classes)
    in_all = min(AT_MOST, _NUMBERS // math.prod(task.image_shape))
    count = min(OF_A_LABEL, max(in_all // classes, _LEAST_OF_A_LABEL))
    latents = torch.randn(classes, count, task.latent_size, generator=random).to(device)
    points = [
        torch.cat([small(part) for part in _parts(task, generator, of_label, _all(label, of_label))])
        for label, of_label in enumerate(latents)
    ]
    return References(torch.stack(points).nan_to_num(0.0), latents)


@torch.no_grad()
def drawn(
    task: SynthesisTask, generator: nn.Module, count: int, random: RandomGenerator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """`count` synthetic images with labels, every label as often."""
    labels = (torch.arange(count) % len(task.classes)).to(device)
    latents = torch.randn(count, task.latent_size, generator=random).to(device)
    return torch.cat(list(_parts(task, generator, latents, labels))).nan_to_num(0.0), labels


def _parts(task: SynthesisTask, generator: nn.Module, latents: Tensor, labels: Tensor) -> Iterator[Tensor]:
    size = at_once(task)
    for part, of_part in zip(latents.split(size), labels.split(size), strict=True):
        yield generator(part, of_part).float()


def _all(label: int, latents: Tensor) -> Tensor:
    return latents.new_full((len(latents),), label, dtype=torch.int64)


def at_once(task: SynthesisTask) -> int:
    """How many images a generator draws together, so that large ones fit into memory."""
    return max(_NUMBERS_AT_ONCE // math.prod(task.image_shape), 1)
