"""Ways in which a private mechanism has been built wrong, as values: an audit must notice every one of them.

Each is a sound mechanism with one function in place of another. Nothing is patched, and none of them can be
selected for a run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256

import torch
from torch import Tensor, nn

from medgan_core.messages import Event, Phase
from medgan_core.privacy.audit.mechanism import Answer, Mechanism, Query, Sample, Step
from medgan_core.privacy.book_keeping import ExampleLoss
from medgan_core.privacy.engine import FreeLoss, PrivateOptimizer
from medgan_core.privacy.noise import SecretRandom
from medgan_core.privacy.plan import PrivacyPlan

_UNCLIPPED = 1e6

Mutate = Callable[[Mechanism], Mechanism]


@dataclass(frozen=True)
class Mutant:
    """`make` turns a sound mechanism into a wrong one. `of_steps`: it is one of noisy steps at a site."""

    name: str
    make: Mutate
    of_steps: bool = True


def half_the_noise(sound: Mechanism) -> Mechanism:
    """σ/2 is added where σ is charged."""
    return replace(sound, runs=replace(sound.runs, noise_multiplier=sound.runs.noise_multiplier / 2))


def no_clip(sound: Mechanism) -> Mechanism:
    """The noise is right, but gradients are as long as they are."""
    plan = sound.runs
    sigma, clip = plan.noise_multiplier / _UNCLIPPED, plan.clip_norm * _UNCLIPPED
    return replace(sound, runs=replace(plan, clip_norm=clip, noise_multiplier=sigma))


def noise_reused(sound: Mechanism) -> Mechanism:
    """Every step adds the noise of the first one: it cancels in the difference of two."""
    return replace(sound, random=lambda: _Reused(sound.random()))


class _Reused:
    def __init__(self, inner: SecretRandom) -> None:
        self._inner = inner
        self._kept: dict[int, Tensor] = {}

    def normal(self, count: int) -> Tensor:
        if count not in self._kept:
            self._kept[count] = self._inner.normal(count)
        return self._kept[count].clone()

    def uniform(self, count: int) -> Tensor:
        return self._inner.uniform(count)


def shuffling(sound: Mechanism) -> Mechanism:
    """Batches of one size, cut from a shuffled list, accounted as Poisson samples."""

    def sample(plan: PrivacyPlan, random: SecretRandom, images: Tensor) -> Callable[[], Sample]:
        size = max(1, round(plan.sampling_rate * len(images)))
        order: list[int] = []

        def batch() -> Sample:
            while len(order) < size:
                order.extend(random.uniform(len(images)).argsort().tolist())
            chosen = images[[order.pop(0) for _ in range(size)]]
            return chosen, torch.zeros(size, dtype=torch.int64), torch.arange(size)

        return batch

    return replace(sound, sample=sample)


def steps_under_counted(sound: Mechanism) -> Mechanism:
    """The ledger is told of one step less in each round."""

    def charged(plan: PrivacyPlan, phase: Phase) -> Event:
        event = sound.charged(plan, phase)
        return replace(event, steps=event.steps - 1) if phase is Phase.TRAIN else event

    return replace(sound, charged=charged)


def backward_twice(sound: Mechanism) -> Mechanism:
    """Gradients accumulate: each patient is clipped and added twice."""

    def step(optimizer: PrivateOptimizer) -> Step:
        once = sound.step(optimizer)

        def twice(
            loss: ExampleLoss, images: Tensor, labels: Tensor, owner: Tensor, free: FreeLoss | None
        ) -> None:
            others = owner + (int(owner.max()) + 1 if len(owner) else 0)
            again = (torch.cat([images, images]), torch.cat([labels, labels]), torch.cat([owner, others]))
            once(loss, *again, free)

        return twice

    return replace(sound, step=step)


def fakes_of_a_patient(sound: Mechanism) -> Mechanism:
    """Fakes that count as free, and are a patient's image."""

    def free(sample: Sample) -> FreeLoss | None:
        images = sample[0][:1]

        def loss(network: nn.Module) -> Tensor:
            mean: Tensor = network(images.flatten(1)).mean()
            return mean

        return loss if len(images) else None

    return replace(sound, free=free, leaves=sound.leaves_with(lambda images: images[:1]))


def split_by_others(sound: Mechanism) -> Mechanism:
    """Every fifth patient of a sorted list is held out."""

    def held_out(keys: Sequence[str]) -> list[bool]:
        order = sorted(keys)
        return [order.index(key) % 5 == 0 for key in keys]

    return replace(sound, held_out=held_out)


def image_counts(sound: Mechanism) -> Mechanism:
    """Every image counts as if it were a patient."""

    def by_image(query: Query) -> Query:
        def add(*rows: Tensor) -> Tensor:
            return query.add(*rows[:-1], torch.arange(len(rows[-1])))

        return replace(query, add=add)

    return replace(sound, queries=tuple(by_image(query) for query in sound.queries))


def replay_to_others(sound: Mechanism) -> Mechanism:
    """A secure sum of another cohort is answered with the noise that the first one had."""

    @contextmanager
    def answers() -> Iterator[Answer]:
        with sound.answers() as answer:
            yield lambda cohort: answer(sha256(b"any").hexdigest())

    return replace(sound, answers=answers)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("half the noise", half_the_noise),
    Mutant("no clip", no_clip),
    Mutant("noise reused", noise_reused),
    Mutant("shuffling instead of Poisson", shuffling),
    Mutant("steps under-counted", steps_under_counted),
    Mutant("backward twice", backward_twice),
    Mutant("fakes made from a patient", fakes_of_a_patient),
    Mutant("a split that depends on others", split_by_others, of_steps=False),
    Mutant("image counts instead of patient means", image_counts, of_steps=False),
    Mutant("a replay to a changed cohort", replay_to_others, of_steps=False),
)
