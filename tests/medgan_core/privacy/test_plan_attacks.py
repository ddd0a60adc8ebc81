"""The queries by which attacks are told of: whose budget they draw on, and what they leave to the others."""

from typing import Any

import pytest

from medgan_core.config import ATTACK_BINS, Study, parse_study
from medgan_core.errors import ConfigError
from medgan_core.messages import Event, Phase
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.plan import PrivacyPlan

DELTA = 1e-5


def study(*, rounds: int = 2, attack: bool = True, **changes: Any) -> Study:
    body: dict[str, Any] = {
        "name": "x",
        "strategy": "refine",
        "rounds": rounds,
        "data": {"kind": "npz", "path": "x", "classes": ["a", "b"]},
        "privacy": {"epsilon": 4.0, "delta": DELTA, "sampling_rate": 0.1},
        "training": {"discriminator_steps": 10},
        "evaluation": {"attack": attack},
    }
    return parse_study(body | changes)


def plan_of(**changes: Any) -> PrivacyPlan:
    return PrivacyPlan.of(study(**changes), "patient")


@pytest.fixture(scope="module")
def plan() -> PrivacyPlan:
    return plan_of()


def test_members_and_held_out_patients_are_asked_last_a_round_each(plan: PrivacyPlan) -> None:
    assert [plan.phase(number) for number in range(3, 8)] == [
        Phase.GATE,
        Phase.EVALUATE,
        Phase.ATTACK,
        Phase.CONTROL,
        None,
    ]
    assert plan.last_round == study().last_round == 6
    assert plan.events("training")[-1] == Event(plan.attack_noise_multiplier, 1.0, 1)
    assert plan.events("held_out")[-1] == Event(plan.control_noise_multiplier, 1.0, 1)


def test_each_query_alone_costs_its_share(plan: PrivacyPlan) -> None:
    for phase, share in ((Phase.ATTACK, 0.2), (Phase.CONTROL, 0.4)):
        alone = epsilon([plan.event(phase)], DELTA)
        assert 0.99 * share * 4.0 <= alone <= share * 4.0


@pytest.mark.parametrize("rounds", [0, 2])
def test_the_whole_run_keeps_to_its_epsilon(rounds: int) -> None:
    told = plan_of(rounds=rounds)
    for account in ("training", "held_out"):
        assert 0.98 * 4.0 <= epsilon(told.events(account), DELTA) <= 4.0


def test_the_one_shot_query_pays_little_and_the_steps_nothing(plan: PrivacyPlan) -> None:
    without = plan_of(attack=False)
    assert 1 < plan.one_shot_noise_multiplier / without.one_shot_noise_multiplier < 1.05
    assert plan.noise_multiplier == pytest.approx(without.noise_multiplier, rel=0.01)


def test_a_share_of_the_one_shot_query_that_leaves_nothing_for_attacks_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"one_shot_share = 0\.2: expected more than evaluation\.attack_share"
    ):
        plan_of(privacy={"epsilon": 4.0, "delta": DELTA, "one_shot_share": 0.2})


def test_a_run_without_attacks_has_the_plan_it_always_had(plan: PrivacyPlan) -> None:
    without = plan_of(attack=False)
    assert without.attack_size == without.attack_noise_multiplier == without.control_noise_multiplier == 0
    assert without.phase(5) is None
    assert without.digest() != plan.digest()


@pytest.mark.parametrize(
    ("changes", "attacks"),
    [
        ({}, ("discriminator", "nearest", "density", "inversion")),
        ({"rounds": 0}, ("nearest", "density", "inversion")),
        ({"share": "generator"}, ("nearest", "density", "inversion")),
        ({"task": "restoration"}, ("loss",)),
        ({"attack": False}, ()),
    ],
)
def test_only_attacks_that_have_something_to_go_by_are_tried(
    changes: dict[str, Any], attacks: tuple[str, ...]
) -> None:
    asked = study(**changes)
    assert asked.attacks == attacks
    assert asked.attack_size == len(attacks) * 2 * ATTACK_BINS


def test_of_large_sites_some_patients_join_and_less_noise_does() -> None:
    large = plan_of(sites={"nominal_patients": 5000})
    assert (large.attack_rate, large.control_rate) == (0.1, 500 / 750)
    assert large.event(Phase.ATTACK).sampling_rate == 0.1
    assert large.attack_noise_multiplier < plan_of().attack_noise_multiplier
    assert 0.98 * 4.0 <= epsilon(large.events("training"), DELTA) <= 4.0
