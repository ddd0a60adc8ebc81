"""The checks of an audit: each looks at one promise of the plan, and says what it saw.

A check fails where what it saw happens to a sound mechanism less than once in a million times, or never.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, optim

from medgan_core.messages import Phase
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.audit import bounds
from medgan_core.privacy.audit.canaries import single_run, spikes
from medgan_core.privacy.audit.mechanism import Mechanism, Query
from medgan_core.privacy.noise_watch import STOP, NoiseWatch
from medgan_core.privacy.plan import PrivacyPlan

Counts = NDArray[np.int64]
Verdict = Literal["passed", "failed", "inconclusive"]

_LEAST, _LEAST_MEASURED, _MOST = 2000, 16_000, 200_000
_NOISE_SQUARED = 10.0
"""σ² up to which the least number of observations will do."""
_MISS = 0.05
_PATIENTS, _SAMPLES = 1000, 200
_CANARIES, _MOST_STEPS = 1000, 5000
_ROUND_STEPS = 20
_ROUNDING = 1e-4
_UNFELT, _NOBODY = 1e-60, 1 - 2.0**-53
_COUNTS = (1, 3, 10, 2)


@dataclass(frozen=True)
class Outcome:
    """Of one check. `figures` are numbers for a machine; `p_value` is 0 where something can never happen."""

    name: str
    verdict: Verdict
    text: str
    p_value: float = 1.0
    figures: dict[str, float] = field(default_factory=dict)


Check = Callable[[Mechanism], tuple[Outcome, ...]]


def noise_and_canaries(mechanism: Mechanism) -> tuple[Outcome, ...]:
    """χ² of the noise of some steps, and by how much canaries move it; as many as can tell 1 from 2."""
    return _noise_and_canaries(mechanism, _observations(mechanism, _LEAST))


def measured(mechanism: Mechanism) -> tuple[Outcome, ...]:
    """The same with more observations, and what it means for ε of all steps of the run, by PRV."""
    noise, canary = _noise_and_canaries(mechanism, _observations(mechanism, _LEAST_MEASURED))
    event, delta = mechanism.training, mechanism.plan.delta
    claimed = epsilon((event,), delta)
    moves = (1 / (event.noise_multiplier * noise.figures["deviation"]), canary.figures["move"])
    seen = [bounds.epsilon_of_move(move, event, delta) for move in moves]
    return tuple(
        replace(
            one,
            text=f"{one.text}: ε ≥ {least:.3g} of {claimed:.3g}",
            figures=one.figures | {"epsilon": least, "claimed": claimed},
        )
        for one, least in zip((noise, canary), seen, strict=True)
    )


def _observations(mechanism: Mechanism, least: int) -> int:
    """More, the more noise there is: the error of a move shrinks with the root of their number."""
    wanted = math.ceil(least * mechanism.plan.noise_multiplier**2 / _NOISE_SQUARED)
    return min(max(least, wanted), _MOST)


def _noise_and_canaries(mechanism: Mechanism, observations: int) -> tuple[Outcome, Outcome]:
    sigma, seen = mechanism.plan.noise_multiplier, spikes(mechanism, observations)
    absent, present, reading = seen.absent.ravel(), seen.present.ravel(), seen.reading
    noise = _by_chance(
        "noise", reading.p_value, f"deviation at most {reading.deviation:.3f} of what is charged"
    )
    surely, likely = (bounds.gaussian_move(absent, present, miss) for miss in (STOP, _MISS))
    chances = (bounds.moved_too_far(absent, present, sigma), bounds.any_too_far(seen.present, sigma))
    too_far = 0.0 if surely > 1 / sigma else min(1.0, 2 * min(chances))
    text = f"{len(present)} spikes moved it by at least {likely:.3f} deviations"
    return (
        replace(noise, figures={"coordinates": float(reading.count), "deviation": reading.deviation}),
        replace(
            _by_chance("canary by step", too_far, text),
            figures={"observations": float(len(present)), "move": likely},
        ),
    )


def participation(mechanism: Mechanism) -> tuple[Outcome, ...]:
    """How often patients join, and how many join a step: both binomial, or it is no Poisson sampling."""
    images = torch.eye(_PATIENTS)[:, None, None, :]
    sample = mechanism.sample(mechanism.runs, mechanism.random(), images)
    joined, sizes = np.zeros(_PATIENTS, np.int64), np.zeros(_SAMPLES, np.int64)
    for step in range(_SAMPLES):
        chosen = sample()[0]
        joined += chosen.flatten(1).bool().sum(0).numpy() if len(chosen) else 0
        sizes[step] = len(chosen)
    return (_participation("participation", mechanism.plan.sampling_rate, joined, sizes),)


def _participation(name: str, rate: float, joined: Counts, sizes: Counts) -> Outcome:
    patients, steps = len(joined), len(sizes)
    chances = (
        bounds.binomial_p_value(int(joined.sum()), patients * steps, rate),
        bounds.dispersion_p_value(joined, steps, rate),
        bounds.dispersion_p_value(sizes, patients, rate),
    )
    text = f"{joined.mean():.3g} of {steps} steps a patient, promised {steps * rate:.3g}"
    return _by_chance(name, min(1.0, len(chances) * min(chances)), text)


def clipping(mechanism: Mechanism) -> tuple[Outcome, ...]:
    """No patient moves the study's own network by more than C, however loud the images are."""
    clip, worst = mechanism.plan.clip_norm, 0.0
    for loudness in (1e-3, 1.0, 1e3, 1e20, math.nan):
        worst = max(worst, _moved_by_one(mechanism, loudness))
    text = f"a patient moves the sum by {worst / clip:.6f} of the clip norm at most"
    return (_never("clipping", worst > clip * (1 + _ROUNDING), text),)


def _moved_by_one(mechanism: Mechanism, loudness: float) -> float:
    trial = mechanism.trial()
    network = trial.network
    quiet = replace(mechanism.runs, noise_multiplier=0.0, nominal_batch=1.0)
    optimizer = quiet.optimizer(network, lambda weights: optim.SGD(weights, 1.0), mechanism.random())
    before = [p.detach().clone() for p in optimizer.parameters]
    owner = torch.zeros(len(trial.images), dtype=torch.int64)
    mechanism.step(optimizer)(trial.loss, trial.images * loudness, trial.labels, owner, None)
    moved = [(p.detach() - old).norm() for p, old in zip(optimizer.parameters, before, strict=True)]
    return float(torch.stack(moved).norm())


def fakes(mechanism: Mechanism) -> tuple[Outcome, ...]:
    """Nothing of patients leaves a round of training but their clipped gradients.

    Where nobody is sampled, or everybody under a clip norm that is zero in float32, any give the same.
    """
    short = replace(mechanism.runs, steps=min(mechanism.runs.steps, _ROUND_STEPS))
    unfelt = replace(short, clip_norm=_UNFELT)
    odd = [
        name
        for name, plan, coin in (("nobody sampled", short, _NOBODY), ("everybody, unfelt", unfelt, 0.0))
        if mechanism.leaves(plan, _Told(coin), 0) != mechanism.leaves(plan, _Told(coin), 1)
    ]
    text = f"other patients, another update: {', '.join(odd)}" if odd else "other patients, the same update"
    return (_never("fakes", bool(odd), text),)


class _Told:
    """No noise, and the same coin for everybody."""

    def __init__(self, coin: float) -> None:
        self._coin = coin

    def normal(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.float64)

    def uniform(self, count: int) -> Tensor:
        return torch.full((count,), self._coin, dtype=torch.float64)


def queries(mechanism: Mechanism) -> tuple[Outcome, ...]:
    """One patient moves each query by 1 at most, whatever the number of images."""
    worst = {query.name: _worst_move(query) for query in mechanism.queries}
    return tuple(
        _never(name, far > 1 + 1e-9, f"a patient moves it by {far:.6f} at most, of 1")
        for name, far in worst.items()
    )


def _worst_move(query: Query) -> float:
    owner = torch.repeat_interleave(torch.arange(len(_COUNTS)), torch.tensor(_COUNTS))
    worst = 0.0
    for seed in range(20):
        rows = query.rows(len(owner), torch.Generator().manual_seed(seed))
        whole = query.add(*rows, owner)
        for patient in range(len(_COUNTS)):
            kept = owner != patient
            rest = query.add(*(part[kept] for part in rows), owner[kept].unique(return_inverse=True)[1])
            worst = max(worst, float((whole - rest).double().norm()))
    return worst


def split(mechanism: Mechanism) -> tuple[Outcome, ...]:
    """Whether a patient is held out does not depend on who else is there."""
    keys = [f"audit-{number}" for number in range(60)]
    among = list(mechanism.held_out(keys))
    alone = [mechanism.held_out([key])[0] for key in keys]
    backwards = list(mechanism.held_out(keys[::-1]))[::-1]
    moved = sum(a != b or a != c for a, b, c in zip(among, alone, backwards, strict=True))
    return (_never("split", moved > 0, f"{moved} of {len(keys)} patients change sides with the others"),)


def replays(mechanism: Mechanism) -> tuple[Outcome, ...]:
    """The same cohort gets the same bytes; another one fresh noise and a charge, as often as was held."""
    with mechanism.answers() as answer:
        got = [answer(cohort) for cohort in ("a b c", "a b c", "a b", "b c")]
    sound = got == ["fresh", "replayed", "fresh", "refused"]
    return (_never("replay", not sound, f"a repeat, two other cohorts: {', '.join(got[1:])}"),)


def rounds(mechanism: Mechanism) -> tuple[Outcome, ...]:
    """A whole round of each kind on made-up patients draws as much noise, and as often, as is charged."""
    short = replace(mechanism.runs, steps=min(mechanism.runs.steps, _ROUND_STEPS))
    return tuple(_round(mechanism, short, phase) for phase in mechanism.phases)


def _round(mechanism: Mechanism, runs: PrivacyPlan, phase: Phase) -> Outcome:
    promised = replace(mechanism.plan, steps=runs.steps)
    watch = NoiseWatch(mechanism.charged(promised, phase), promised.deviation(phase))
    mechanism.round(runs, phase, mechanism.random(), watch)
    reading = watch.reading()
    name = f"round: {phase}"
    if reading is None:
        return Outcome(name, "inconclusive", "it is charged without noise")
    text = f"{reading.calls} draws of noise, {reading.event.steps} charged"
    return _by_chance(name, reading.p_value, text)


def one_run(mechanism: Mechanism) -> tuple[Outcome, ...]:
    """All steps of the run at once, on canaries: what one run shows, and what it could have."""
    steps = min(mechanism.training.steps, _MOST_STEPS)
    seen = single_run(mechanism, _CANARIES, steps)
    claimed = epsilon((replace(mechanism.training, steps=steps),), mechanism.plan.delta)
    text = (
        f"{seen.right} of {seen.guesses} guesses right in {steps} steps: ε ≥ {seen.epsilon:.2g}, "
        f"expected {seen.expected:.2g}, of {claimed:.3g}"
    )
    p_value = bounds.one_run_p_value(seen.guesses, seen.right, _CANARIES, claimed, mechanism.plan.delta)
    figures = {"epsilon": seen.epsilon, "expected": seen.expected, "claimed": claimed}
    took_part = _participation("participation in it", mechanism.plan.sampling_rate, seen.joined, seen.sizes)
    return (replace(_by_chance("one run", p_value, text), figures=figures), took_part)


def _by_chance(name: str, p_value: float, text: str) -> Outcome:
    return Outcome(name, "failed" if p_value < STOP else "passed", text, p_value)


def _never(name: str, broken: bool, text: str) -> Outcome:
    return Outcome(name, "failed" if broken else "passed", text, 0.0 if broken else 1.0)
