"""Canaries: made-up patients whose gradients are spikes, each in a coordinate of its own.

One step of a linear network shows hundreds of them at once: a spike of ten times the clip norm is clipped to
it and moves its own coordinate by exactly C, under noise that is independent of all others'.
"""

import math
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn, optim

from medgan_core.messages import Event, Phase
from medgan_core.privacy.audit.bounds import Floats, one_run
from medgan_core.privacy.audit.mechanism import Mechanism
from medgan_core.privacy.noise_watch import NoiseReading, NoiseWatch

_LOUD = 10.0
_AT_ONCE = 100
_REHEARSALS = 20
_SHARES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)


@dataclass(frozen=True)
class Spikes:
    """What coordinates moved by, in units of C, [steps, coordinates]: without and with canaries.

    `reading` is of the noise of the same steps.
    """

    absent: Floats
    present: Floats
    reading: NoiseReading


@dataclass(frozen=True)
class OneRun:
    """ε bound from one run and `expected` from rehearsals of a sound one; how often each canary joined."""

    epsilon: float
    expected: float
    canaries: int
    guesses: int
    right: int
    joined: NDArray[np.int64]
    sizes: NDArray[np.int64]
    steps: int


def spikes(mechanism: Mechanism, observations: int) -> Spikes:
    """Steps of which canaries are surely a part, until there are so many observations with them."""
    steps = math.ceil(observations / _AT_ONCE)
    watch = _watch(mechanism, steps)
    bench = _Bench(mechanism, 2 * _AT_ONCE, watch)
    images, owner = bench.images[:_AT_ONCE], torch.arange(_AT_ONCE)
    moved = torch.stack([bench.step(images, owner) for _ in range(steps)])
    reading = cast(NoiseReading, watch.reading())  # canaries are for steps with noise
    return Spikes(moved[:, _AT_ONCE:].numpy(), moved[:, :_AT_ONCE].numpy(), reading)


def single_run(mechanism: Mechanism, canaries: int, steps: int) -> OneRun:
    """One training of canaries of which half, by coins, are patients; then guess which, from their sums.

    Which share of guesses is made is decided by rehearsals on numbers alone, so that nothing is chosen by
    what was observed.
    """
    random = np.random.default_rng()
    member = random.random(canaries) < 0.5
    scores, joined, sizes = _train(mechanism, member, steps)
    event = replace(mechanism.training, steps=steps)
    share, expected = _rehearsed(event, canaries, mechanism.plan.delta, random)
    guesses, right = _guess(scores, member, share)
    found = one_run(guesses, right, canaries, mechanism.plan.delta)
    return OneRun(found, expected, canaries, guesses, right, joined, sizes, steps)


def _train(
    mechanism: Mechanism, member: NDArray[np.bool_], steps: int
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """The sums of all steps [canaries], how often each member joined, and each step's patients."""
    bench = _Bench(mechanism, len(member), _watch(mechanism, steps))
    sample = mechanism.sample(mechanism.runs, bench.random, bench.images[torch.from_numpy(member)])
    joined, sizes = np.zeros(len(member), np.int64), np.zeros(steps, np.int64)
    total = torch.zeros(len(member), dtype=torch.float64)
    for step in range(steps):
        images, _, owner = sample()
        if len(images):
            joined[images.flatten(1).argmax(1).numpy()] += 1
        sizes[step] = len(images)
        total += bench.step(images, owner)
    return total.numpy(), joined[member], sizes


def _rehearsed(event: Event, canaries: int, delta: float, random: np.random.Generator) -> tuple[float, float]:
    """The share of guesses that promises most, and ε that it gives a sound mechanism on average."""
    found = dict.fromkeys(_SHARES, 0.0)
    for _ in range(_REHEARSALS):
        member = random.random(canaries) < 0.5
        noise = random.normal(0, event.noise_multiplier * math.sqrt(event.steps), canaries)
        scores = member * random.binomial(event.steps, event.sampling_rate, canaries) + noise
        for share in _SHARES:
            found[share] += one_run(*_guess(scores, member, share), canaries, delta) / _REHEARSALS
    best = max(found, key=lambda share: found[share])
    return best, found[best]


def _guess(scores: Floats, member: NDArray[np.bool_], share: float) -> tuple[int, int]:
    """Call the highest scores members and the lowest ones not: how many guesses, how many right."""
    each = max(1, int(len(scores) * share / 2))
    order = scores.argsort()
    return 2 * each, int(member[order[-each:]].sum() + (~member[order[:each]]).sum())


def _watch(mechanism: Mechanism, steps: int) -> NoiseWatch:
    """Over noise as it is promised, whatever runs."""
    event = replace(mechanism.plan.event(Phase.TRAIN), steps=steps)
    return NoiseWatch(event, mechanism.plan.deviation(Phase.TRAIN))


class _Bench:
    """A linear network under the mechanism's own optimiser; an image is the gradient that it gives."""

    def __init__(self, mechanism: Mechanism, coordinates: int, watch: NoiseWatch) -> None:
        plan = mechanism.plan
        self.mechanism, self.random = mechanism, mechanism.random()
        self.network = nn.Linear(coordinates, 1, bias=False).double()
        nn.init.zeros_(self.network.weight)
        self.images = (torch.eye(coordinates) * _LOUD * plan.clip_norm)[:, None, None, :]
        optimizer = mechanism.runs.optimizer(
            self.network, lambda weights: optim.SGD(weights, 1.0), self.random, watch=watch
        )
        self._step = mechanism.step(optimizer)
        self._unit = plan.nominal_batch / plan.clip_norm

    def step(self, images: Tensor, owner: Tensor) -> Tensor:
        """One step: by how much each coordinate moved, in units of the clip norm."""
        before = self.network.weight.detach().clone()
        rows, labels = images.double(), torch.zeros(len(images), dtype=torch.int64)
        self._step(_score, rows, labels, owner, self.mechanism.free((rows, labels, owner)))
        return (before - self.network.weight.detach()).flatten() * self._unit


def _score(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    scores: Tensor = network(images.flatten(1)).squeeze(1)
    return scores
