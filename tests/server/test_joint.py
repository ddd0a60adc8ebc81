"""The coordinator's part of a joint step: what it does with the sum, what it keeps, what it tells."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medgan_core.adversarial import ema_decay, pace
from medgan_core.messages import PROPORTIONS, Array, Phase
from server.joint import joint_step
from server.state import FederationState, Summed, expected_groups, next_request, server_step
from tests.server.making import SITES, Federation, federation

JOINT = {
    "share": "gradient",
    "privacy__mode": "dp",
    "privacy__secure_sum": True,
    "privacy__noise_multiplier": 5.0,
    "privacy__one_shot_noise_multiplier": 5.0,
    "privacy__nominal_batch": 2.0,
    "training__discriminator_steps": 3,
}


def of(**changes: Any) -> Federation:
    made = federation(**JOINT | changes)
    statistics = {"embedding": np.ones((2, made.study.feature_count + 1))}
    statistics |= {f"{PROPORTIONS}{site}": np.array([0.0, 1.0]) for site in SITES}
    return replace(
        made, state=replace(made.state, round=1, groups={**made.state.groups, "statistics": statistics})
    )


def noisy(made: Federation, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=made.study.discriminator_size)


def stepped(made: Federation, state: FederationState, seed: int = 0) -> FederationState:
    return server_step(made.study, made.task, state, (), Summed(noisy(made, seed), SITES, ()))


def same(left: Any, right: Any) -> bool:
    return set(left) == set(right) and all(np.array_equal(left[name], right[name]) for name in left)


def test_the_expected_sum_has_a_number_for_each_weight() -> None:
    made = of()
    [like] = expected_groups(made.study, made.task, made.state)["statistics"].values()
    assert like.shape == (sum(array.size for array in made.state.groups["discriminator"].values()),)


def test_rounds_go_on_by_steps_and_the_last_is_followed_by_the_evaluation() -> None:
    made = of()
    state, phases = made.state, list[Phase]()
    while (request := next_request(made.study, made.plan, state)) is not None and len(phases) < 7:
        phases.append(request.phase)
        if request.phase is not Phase.TRAIN:
            break
        state = stepped(made, state)
    assert phases == [Phase.TRAIN] * 6 + [Phase.EVALUATE]
    assert {"release", "classifier"} <= set(state.groups)
    assert [entry["discriminator_steps"] for entry in state.history] == [1.0] * 6


def test_the_mean_is_over_the_nominal_batch_of_the_sites_in_the_sum() -> None:
    """Plain SGD in its first step moves the weights by its rate times the gradient, fakes' part apart."""
    made = of()
    groups = made.state.groups

    def moved(total: Array, sites: tuple[str, ...]) -> Array:
        after, _ = joint_step(made.study, made.task, groups, 1, total, sites)
        pairs = [(after["discriminator"][n], a) for n, a in groups["discriminator"].items()]
        return np.concatenate([(new - old).ravel() for new, old in pairs])

    total, rate = noisy(made), made.study.training.discriminator_learning_rate
    by_patients = moved(total, SITES) - moved(0 * total, SITES)
    assert np.allclose(by_patients, -rate * total / (3 * 2.0), atol=1e-7)
    assert np.allclose(moved(total, SITES[:2]) - moved(0 * total, SITES[:2]), 1.5 * by_patients, atol=1e-7)


def test_the_update_rules_go_on_where_they_were() -> None:
    made = of()
    first = stepped(made, made.state)
    assert set(first.groups["discriminator_rule"]) == {f"{n}.momentum_buffer" for n in range(6)}
    second = stepped(made, first, seed=1)
    groups = {name: arrays for name, arrays in first.groups.items() if not name.endswith("_rule")}
    forgot = stepped(made, replace(first, groups=groups), seed=1)
    assert not same(second.groups["discriminator"], forgot.groups["discriminator"])
    assert not same(second.groups["generator"], forgot.groups["generator"])


def test_the_same_step_twice_is_the_same() -> None:
    made = of()
    ends = [stepped(made, made.state).groups for _ in range(2)]
    assert all(same(ends[0][name], ends[1][name]) for name in ends[0])


def test_what_is_told_of_a_step_does_not_depend_on_the_scale_of_private_gradients() -> None:
    """A sum of nothing: the facts are there all the same, made of fakes."""
    made = of()
    _, facts = joint_step(made.study, made.task, made.state.groups, 1, 0 * noisy(made), SITES)
    assert set(facts) == {"generator_loss", "discriminator_accuracy_on_fakes", "discriminator_steps"}


def test_the_generator_follows_as_often_as_the_plan_says() -> None:
    made = of(training__generator_every=2)
    one = stepped(made, made.state)
    two = stepped(made, one)
    assert same(one.groups["generator"], made.state.groups["generator"])
    assert not same(two.groups["generator"], one.groups["generator"])
    assert ["generator_loss" in entry for entry in two.history] == [False, True]


def test_rates_fall_over_the_steps_and_the_average_forgets_as_much_in_a_round() -> None:
    made, plain = of(), federation(rounds=2)
    assert [pace(made.study, n) for n in (1, 6)] == pytest.approx([1.0, 0.2])
    assert [pace(plain.study, n) for n in (1, 2)] == pytest.approx([1.0, 0.2])
    assert ema_decay(made.study, 10**6) ** 3 == pytest.approx(0.9)
    assert ema_decay(plain.study, 10**6) == pytest.approx(0.9)
    assert ema_decay(plain.study, 1) == 2 / 11
