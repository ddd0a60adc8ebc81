"""The coordinator asks how attacks fare, and keeps what they need: the release and some discriminators."""

import numpy as np
import pytest

from medgan_core.config import ATTACK_BINS
from medgan_core.messages import DISCRIMINATORS, Event, Phase
from medgan_core.privacy.grid import total_deviation
from server.finish import attacked, released_metrics
from server.state import FederationState, expected_groups, next_request
from tests.server.making import SITES, Federation, federation


@pytest.fixture(scope="module")
def of() -> Federation:
    return federation(evaluation__attack=True)


@pytest.fixture(scope="module")
def evaluated(of: Federation) -> FederationState:
    """The one-shot round, two of training and the evaluation are done."""
    return of.after(4)


def test_the_sites_get_the_release_and_the_discriminators_and_nothing_else(
    of: Federation, evaluated: FederationState
) -> None:
    request = of.request(evaluated)
    assert request.phase is Phase.ATTACK
    assert set(request.groups) == {"release", DISCRIMINATORS}
    for name, array in evaluated.groups["release"].items():
        assert np.array_equal(request.groups["release"][name], array)


def test_a_discriminator_is_kept_as_it_was_after_its_round(
    of: Federation, evaluated: FederationState
) -> None:
    for number in (1, 2):
        then = of.after(1 + number).groups["discriminator"]
        for name, array in then.items():
            assert np.array_equal(evaluated.groups[DISCRIMINATORS][f"{number}.{name}"], array)


def test_of_many_rounds_some_are_kept_evenly_and_the_last_always() -> None:
    many = federation(evaluation__attack=True, rounds=17)
    kept = many.after(18).groups[DISCRIMINATORS]
    assert sorted({int(name.split(".")[0]) for name in kept}) == [2, 5, 8, 11, 14, 17]


@pytest.mark.parametrize("changes", [{"share": "generator"}, {"evaluation__attack": False}])
def test_without_the_discriminators_attack_none_is_kept(changes: dict[str, object]) -> None:
    assert DISCRIMINATORS not in federation(**{"evaluation__attack": True, **changes}).after(3).groups


def test_both_sums_are_kept_beside_what_was_released_before(
    of: Federation, evaluated: FederationState
) -> None:
    done = of.after(6)
    shape = (len(of.study.attacks), 2, ATTACK_BINS)
    assert expected_groups(of.study, of.task, evaluated)["statistics"]["attack"].shape == shape
    assert {"histogram", "attack", "control"} <= set(done.groups["statistics"])
    summed = sum(answer.groups["statistics"]["attack"].astype(np.float64) for answer in of.answers(evaluated))
    assert np.allclose(done.groups["statistics"]["attack"], summed)
    assert next_request(of.study, of.plan, done) is None


def test_the_run_tells_of_the_evaluation_and_of_the_attacks(of: Federation) -> None:
    done = of.after(6)
    assert set(released_metrics(done)["released"]) == {"accuracy", "balanced_accuracy", "auc"}
    told = attacked(of.study, of.plan, done)
    assert told["names"] == ["discriminator", "nearest", "density", "inversion"]
    assert np.shape(told["members"]) == np.shape(told["held_out"]) == (4, 2, ATTACK_BINS)
    assert np.allclose(told["held_out"], done.groups["statistics"]["control"], atol=5e-4)
    assert told["noise_members"] == told["noise_held_out"] == 0  # a run without privacy
    assert attacked(federation().study, of.plan, done) == {}


def test_the_noise_told_is_that_of_all_sites_together() -> None:
    private = federation(
        evaluation__attack=True, privacy__mode="dp", privacy__noise_multiplier=2.0, privacy__epsilon=8.0
    )
    told = attacked(private.study, private.plan, private.after(6))
    for name, phase in (("members", Phase.ATTACK), ("held_out", Phase.CONTROL)):
        event = private.plan.event(phase)
        assert isinstance(event, Event)
        assert told[f"noise_{name}"] == total_deviation(event, len(SITES)) > 0
