"""A plan under secure sum: its rules, its noise, and what a hold reserves."""

import math
from dataclasses import asdict, replace
from typing import Any

import pytest

from medgan_core.config import ATTACK_BINS, GATE_SIZE, Study, parse_study
from medgan_core.errors import ConfigError
from medgan_core.messages import Phase
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.grid import STEPS, sensitivity
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.sum_rules import SumRules


def study(sites: int = 3, **privacy: Any) -> Study:
    return parse_study(
        {
            "name": "x",
            "strategy": "refine",
            "rounds": 2,
            "data": {"kind": "npz", "path": "x", "classes": ["a", "b"]},
            "sites": {"count": sites},
            "privacy": {"epsilon": 8.0, "sampling_rate": 0.1, "secure_sum": True} | privacy,
            "training": {"discriminator_steps": 10},
            "one_shot": {"frequencies": 50},
        }
    )


@pytest.fixture(scope="module")
def plan() -> PrivacyPlan:
    return PrivacyPlan.of(study(), "patient")


def test_the_rules_are_those_of_the_study() -> None:
    assert PrivacyPlan.of(study(10, noise_multiplier=1.0), "patient").rules == SumRules(10, 2, 1, 6)
    asked = study(10, noise_multiplier=1.0, collude=3, drop=1, max_repeats=4)
    told = PrivacyPlan.of(asked, "patient")
    assert (told.rules, told.max_repeats) == (SumRules(10, 1, 3, 7), 4)


def test_without_secure_sum_a_plan_has_no_rules_and_the_digest_it_always_had(plan: PrivacyPlan) -> None:
    off = PrivacyPlan.of(study(secure_sum=False, noise_multiplier=1.0), "patient")
    assert off.rules is None
    assert not any(off.summed(phase) for phase in Phase)
    assert off.holds("training") == off.events("training")
    assert off.local_epsilon() == off.epsilon()
    assert off.digest() != plan.digest()


def test_the_queries_are_summed_and_the_steps_are_not(plan: PrivacyPlan) -> None:
    assert [plan.summed(phase) for phase in Phase] == [True, False, True, True, True, True]
    assert plan.event(Phase.TRAIN).shares == 0
    sizes = {Phase.ONE_SHOT: 2 * (2 * 50 * 2 + 1), Phase.GATE: GATE_SIZE, Phase.EVALUATE: 2 * 2 * 10}
    sizes |= dict.fromkeys((Phase.ATTACK, Phase.CONTROL), 4 * 2 * ATTACK_BINS)
    for phase, size in sizes.items():
        event = plan.event(phase)
        assert (event.shares, event.dimension, event.sampling_rate, event.steps) == (2, size, 1.0, 1)


def test_a_share_has_the_noise_over_the_root_of_the_sites_that_are_left(plan: PrivacyPlan) -> None:
    """σ / √(K - drop - collude), in steps, of a sensitivity that pays for the rounding."""
    for sites, shares in ((3, 2), (10, 7)):
        told = PrivacyPlan.of(study(sites, noise_multiplier=1.0), "patient")
        event = told.event(Phase.ONE_SHOT)
        whole = event.noise_multiplier * sensitivity(4, event.dimension)
        assert event.share_deviation == pytest.approx(whole / math.sqrt(shares))
        assert whole > event.noise_multiplier * STEPS


def test_the_noise_is_that_of_the_trusted_epsilon_and_the_local_one_is_larger(plan: PrivacyPlan) -> None:
    assert 0.99 * 8 <= plan.epsilon() <= 8
    for account in ("training", "held_out"):
        assert 0.99 * 8 <= epsilon(plan.events(account), plan.delta) <= 8
    assert plan.local_epsilon() == max(
        epsilon([event.local for event in plan.events(name)], plan.delta) for name in ("training", "held_out")
    )
    assert plan.local_epsilon() > 1.3 * plan.epsilon()


def test_a_patient_at_two_sites_moves_the_sum_twice() -> None:
    twice = PrivacyPlan.of(study(max_sites_per_patient=2), "patient")
    once = PrivacyPlan.of(study(), "patient")
    assert 0.99 * 8 <= twice.epsilon() <= 8
    assert twice.evaluation_noise_multiplier == pytest.approx(2 * once.evaluation_noise_multiplier, rel=0.01)


@pytest.mark.parametrize("repeats", [0, 1, 3])
def test_a_hold_reserves_the_repeats_of_sums_alone(plan: PrivacyPlan, repeats: int) -> None:
    told = replace(plan, max_repeats=repeats)
    first, step, gate, last, attack, control = (told.event(phase) for phase in Phase)
    assert told.events("training") == (first, step, step, attack)
    assert told.holds("training") == (first,) * (1 + repeats) + (step, step) + (attack,) * (1 + repeats)
    assert told.holds("held_out") == tuple(
        event for event in (gate, last, control) for _ in range(1 + repeats)
    )


def test_without_privacy_the_sums_are_exact_and_infinite() -> None:
    off = PrivacyPlan.of(study(mode="off"), "patient")
    assert off.event(Phase.ONE_SHOT).share_deviation == 0
    assert off.event(Phase.ONE_SHOT).infinite
    assert off.epsilon() == off.local_epsilon() == math.inf


def test_every_field_of_sums_is_in_the_digest(plan: PrivacyPlan) -> None:
    names = [name for name in asdict(plan) if name.startswith("sum_") or name.endswith("_size")]
    assert len(names) == 8
    others = {replace(plan, **{name: getattr(plan, name) + 1}).digest() for name in [*names, "max_repeats"]}
    assert len(others - {plan.digest()}) == 9


def test_two_sites_have_no_secure_sum() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.secure_sum = True: expected sites.count of 3 or more"):
        study(2)


def test_classes_must_be_declared() -> None:
    body = study().to_dict()
    del body["data"]["classes"]
    with pytest.raises(ConfigError, match=r"data\.classes = \(\): expected the classes by name"):
        parse_study(body)


@pytest.mark.parametrize(("sites", "numbers"), [(3, {"drop": 1}), (4, {"collude": 4}), (5, {"drop": 3})])
def test_numbers_that_do_not_go_together_are_refused(sites: int, numbers: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.drop"):
        PrivacyPlan.of(study(sites, noise_multiplier=1.0, **numbers), "patient")


def test_noise_that_would_wrap_around_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan_core.privacy.noise_levels.room", lambda deviation: False)
    with pytest.raises(ConfigError, match="wrap around"):
        PrivacyPlan.of(study(one_shot_noise_multiplier=5.0), "patient").event(Phase.ONE_SHOT)
