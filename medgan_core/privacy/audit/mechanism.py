"""What is audited, as one value of functions: how a site does what its plan promises.

The functions of a site are the real ones (`client.audited`); a mutant is the same value with another function
in place of one. Data are made up: no audit of the mechanism looks at a patient.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medgan_core.messages import Event, Phase
from medgan_core.privacy.book_keeping import ExampleLoss
from medgan_core.privacy.engine import FreeLoss, PrivateOptimizer
from medgan_core.privacy.noise import SecretRandom
from medgan_core.privacy.noise_watch import NoiseWatch
from medgan_core.privacy.plan import PrivacyPlan

Sample = tuple[Tensor, Tensor, Tensor]
"""Images, labels and owners of a step's patients."""

Step = Callable[[ExampleLoss, Tensor, Tensor, Tensor, FreeLoss | None], None]
Fakes = Callable[[Tensor], Tensor]
"""From a site's images to fakes [b, c, h, w]: there is no sound one."""
Answer = Callable[[str], str]
"""From a cohort to "fresh", "replayed" or "refused"."""


@dataclass(frozen=True)
class Query:
    """A sum over patients of sensitivity 1.

    `rows(images, random)` draws inputs, `add(*rows, owner)` sums them.
    """

    name: str
    rows: Callable[[int, torch.Generator], tuple[Tensor, ...]]
    add: Callable[..., Tensor]


@dataclass(frozen=True)
class Trial:
    """A private network as a study has it, its loss of patients, and made-up images of one patient."""

    network: nn.Module
    loss: ExampleLoss
    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Mechanism:
    """`plan` is what is promised and charged; `runs` the plan by which it is done, the same in a sound one.

    `sample(plan, random, images)` draws the patients of a step, each with one of the images [k, …];
    `step(optimizer)` is how a step is taken with them, and `free(sample)` the loss of its fakes;
    `charged(plan, phase)` what the ledger is told; `held_out` the split of patients by their keys; `answers`
    opens a fresh ledger and answers secure sums of one round; `round(plan, phase, random, watch)` is a whole
    round of a site on made-up patients. `leaves(plan, random, seed)` is the digest of what leaves in a round
    of training on the patients of a seed, `leaves_with(fakes)` the same with other fakes.
    """

    plan: PrivacyPlan
    runs: PrivacyPlan
    random: Callable[[], SecretRandom]
    sample: Callable[[PrivacyPlan, SecretRandom, Tensor], Callable[[], Sample]]
    step: Callable[[PrivateOptimizer], Step]
    free: Callable[[Sample], FreeLoss | None]
    charged: Callable[[PrivacyPlan, Phase], Event]
    queries: tuple[Query, ...]
    held_out: Callable[[Sequence[str]], Sequence[bool]]
    answers: Callable[[], AbstractContextManager[Answer]]
    round: Callable[[PrivacyPlan, Phase, SecretRandom, NoiseWatch], None]
    leaves: Callable[[PrivacyPlan, SecretRandom, int], str]
    leaves_with: Callable[[Fakes], Callable[[PrivacyPlan, SecretRandom, int], str]]
    trial: Callable[[], Trial]

    @property
    def trains(self) -> bool:
        """Whether steps are noised at the site itself."""
        return self.plan.rounds > 0 and not self.plan.summed(Phase.TRAIN)

    @property
    def training(self) -> Event:
        """All steps of the run together, as promised."""
        event = self.plan.event(Phase.TRAIN)
        return Event(event.noise_multiplier, event.sampling_rate, event.steps * self.plan.rounds)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The kinds of round that the run has."""
        numbers = range(self.plan.first_round, self.plan.rounds + 3)
        return tuple(dict.fromkeys(p for n in numbers if (p := self.plan.phase(n)) is not None))
