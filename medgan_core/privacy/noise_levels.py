"""The noise that a study's ε asks for, and the events of queries and joint steps.

Every mechanism is first given its share of ε alone; what is searched for last gets what composition leaves.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from medgan_core.config import GATE_SIZE, Study
from medgan_core.errors import ConfigError
from medgan_core.messages import Event
from medgan_core.privacy.accounting import at_sites, smallest_noise
from medgan_core.privacy.grid import room, sensitivity_of_gradients, share_deviation
from medgan_core.privacy.sum_rules import SumRules

_Mechanism = Callable[[float], tuple[Event, ...]]


def sum_event(sigma: float, rate: float, rules: SumRules, size: int, images: int) -> Event:
    """A query of `size` numbers as a secure sum; patients with at most so many images join at a rate."""
    return _shared_event(sigma, rate, rules, size, share_deviation(sigma, rules.shares, images, size))


def joint_event(sigma: float, sampling_rate: float, rules: SumRules, size: int) -> Event:
    """One step whose gradients, of `size` weights, are summed securely."""
    deviation = sigma * sensitivity_of_gradients(size) / math.sqrt(rules.shares)
    return _shared_event(sigma, sampling_rate, rules, size, deviation)


def _shared_event(sigma: float, sampling_rate: float, rules: SumRules, size: int, deviation: float) -> Event:
    if not room(deviation * math.sqrt(rules.sites)):
        raise ConfigError("noise multiplier", sigma, "less noise: a secure sum would wrap around")
    return Event(sigma, sampling_rate, 1, rules.shares, size, deviation)


class Noise(NamedTuple):
    """Noise multipliers."""

    one_shot: float = 0.0
    steps: float = 0.0
    gate: float = 0.0
    evaluation: float = 0.0
    attack: float = 0.0
    control: float = 0.0


@lru_cache(maxsize=64)
def noise_of(study: Study) -> Noise:
    """The noise that a study's ε asks for.

    The query of attacks is alone given `attack_share` of ε. With it the one-shot query, where there is one,
    is given `one_shot_share`, or all where there are no rounds; the steps get what composition leaves.
    """
    asked, steps = study.privacy, study.rounds * study.training.discriminator_steps
    given = "privacy.epsilon", asked.epsilon
    first = _query(study, study.sizes_of_sums[0])
    tried = _query(study, study.attack_size, study.attack_rate)
    attack = 0.0
    if study.attacks:
        attack = _search(study, given, tried, study.evaluation.attack_share)
    start = tried(attack) if attack else ()
    one_shot = asked.one_shot_noise_multiplier or 0.0
    if study.free_fakes:
        share, before = asked.one_shot_share if steps else 1.0, start
        if attack and share <= study.evaluation.attack_share:
            least = f"more than evaluation.attack_share, {study.evaluation.attack_share:g}, which it covers"
            raise ConfigError("privacy.one_shot_share", share, least)
        one_shot = one_shot or _search(study, given, lambda sigma: before + first(sigma), share)
        start = before + first(one_shot)

    def training(sigma: float) -> tuple[Event, ...]:
        return start + at_sites((_steps(study, sigma),), asked.max_sites_per_patient)

    noise = _noise_of_judging(study)._replace(attack=attack, one_shot=one_shot)
    if asked.noise_multiplier is not None or not steps:
        return noise._replace(steps=asked.noise_multiplier or 1.0)
    return noise._replace(steps=_search(study, given, training))


def _noise_of_judging(study: Study) -> Noise:
    """Gate and control are alone given their shares of the held-out patients' ε, the evaluation the rest."""
    asked, given = study.evaluation, ("privacy.epsilon", study.privacy.epsilon)
    if asked.epsilon:
        given = "evaluation.epsilon", asked.epsilon
    chosen: tuple[Event, ...] = ()
    found = {"gate": 0.0, "control": 0.0}
    for name, wanted, query, share in (
        ("gate", study.gated, _query(study, GATE_SIZE), asked.gate_share),
        (
            "control",
            bool(study.attacks),
            _query(study, study.attack_size, study.control_rate),
            asked.control_share,
        ),
    ):
        if wanted:
            found[name] = _search(study, given, query, share)
            chosen += query(found[name])
    last = _query(study, study.judged_size)
    evaluation = _search(study, given, lambda sigma: chosen + last(sigma))
    return Noise(evaluation=evaluation, **found)


def _steps(study: Study, sigma: float) -> Event:
    """All discriminator steps of a run, by their noise multiplier."""
    rate, steps = study.privacy.sampling_rate, study.rounds * study.training.discriminator_steps
    rules = _rules(study)
    if rules is None or not study.joint:
        return Event(sigma, rate, steps)
    return replace(joint_event(sigma, rate, rules, study.discriminator_size), steps=steps)


def _rules(study: Study) -> SumRules | None:
    asked = study.privacy
    return SumRules.of(study.sites.count, asked.collude, asked.drop) if asked.secure_sum else None


def _search(study: Study, given: tuple[str, float], events: _Mechanism, share: float = 1.0) -> float:
    """The smallest noise multiplier that keeps ε within a share of what the study gives by that name.

    Raises ConfigError, which tells what was given, if there is none.
    """
    name, whole = given
    try:
        return smallest_noise(events, share * whole, study.privacy.delta)
    except ValueError as error:
        part = f", a share of {share:g} of it" if share < 1 else ""
        raise ConfigError(name, whole, f"a larger value or fewer rounds: {error}{part}") from None


def _query(study: Study, size: int, rate: float = 1.0) -> _Mechanism:
    """The events, by its noise multiplier, of one query of so many numbers at all sites of a patient."""
    asked = study.privacy
    rules = _rules(study)

    def events(sigma: float) -> tuple[Event, ...]:
        images = asked.max_images_per_patient
        event = sum_event(sigma, rate, rules, size, images) if rules else Event(sigma, rate, 1)
        return at_sites((event,), asked.max_sites_per_patient)

    return events
