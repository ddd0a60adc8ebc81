"""Steps that touch no patient: the generator's, and the rhythm between both networks' steps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn, optim

from medgan_core.gan.task import SynthesisTask

Anchor = Callable[[Tensor, Tensor], Tensor]

LADDER = (1, 2, 5, 10, 20, 50, 100)
_TOO_WEAK, _STRONG = 0.6, 0.8


@dataclass
class Rhythm:
    """How many discriminator steps make one generator step.

    Fixed at `every`, or adaptive: the ladder is climbed while the discriminator rejects less than 60 % of
    the fakes and descended when it rejects more than 80 %. It sees fakes alone, so it costs no privacy; the
    number of discriminator steps is the plan's and never changes (Bie, Kamath, Zhang 2023, "Private GANs,
    Revisited", https://arxiv.org/abs/2302.02936, section 4).
    """

    every: int
    adaptive: bool

    def due(self, step: int) -> bool:
        """Whether a generator step follows discriminator step `step` (counted from 1)."""
        return step % self.every == 0

    def hear(self, rejected: float) -> None:
        """Move on the ladder by the share of fakes that the discriminator rejects."""
        if not self.adaptive:
            return
        if rejected < _TOO_WEAK:
            self.every = next((rung for rung in LADDER if rung > self.every), self.every)
        elif rejected > _STRONG:
            self.every = next((rung for rung in reversed(LADDER) if rung < self.every), self.every)


def balanced_labels(count: int, classes: int) -> Tensor:
    """Labels [count] of fakes, every class as often or once more."""
    return torch.arange(count) % classes


def labels_to_match(batch: int, classes: int) -> Tensor:
    """Labels of `batch` fakes, or of two a class where that is more: a mismatch sees no class with fewer."""
    return balanced_labels(max(batch, 2 * classes), classes)


def generator_step(
    task: SynthesisTask,
    generator: nn.Module,
    discriminator: nn.Module | None,
    optimizer: optim.Optimizer,
    labels: Tensor,
    random: torch.Generator,
    *,
    anchor: Anchor | None = None,
    anchor_weight: float = 1.0,
) -> float:
    """One step of the generator against a discriminator, towards an anchor, or both; returns its loss.

    `anchor(fakes, labels)` is the mismatch to the released embedding: a loss made of released values alone.
    """
    fakes = task.sample(generator, labels, random)
    loss = torch.zeros((), device=fakes.device)
    if discriminator is not None:
        loss = loss + task.generator_loss(discriminator, fakes, labels).mean()
    if anchor is not None and anchor_weight > 0:
        loss = loss + anchor_weight * anchor(fakes, labels)
    parameters = [p for p in generator.parameters() if p.requires_grad]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return float(loss.detach())
