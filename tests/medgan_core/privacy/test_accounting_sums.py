"""ε of secure sums: against a second accountant, exact divergences, and the published formula."""

import math
from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.dp_event import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant, privacy_loss_distribution
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medgan_core.messages import Event
from medgan_core.privacy import accounting
from medgan_core.privacy.accounting import (
    at_sites,
    epsilon,
    locally_at_sites,
    renyi_of_sum,
    smallest_noise,
    sum_apart,
)

DELTA = 1e-5
FINE = {"shares": 2, "dimension": 8002, "share_deviation": 2.0**20}
SUM = Event(1.2, 1.0, 1, **FINE)  # type: ignore[arg-type]
STEPS = Event(1.0, 0.05, 200)


def second_opinion(events: list[Event], delta: float, kind: type) -> float:
    """dp-accounting's ε of the same Gaussians; on a fine grid a sum of discrete ones is one of them."""
    accountant = (
        PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
        if kind is PLDAccountant
        else RdpAccountant(accounting._ORDERS)
    )
    for event in events:
        gaussian = GaussianDpEvent(event.noise_multiplier)
        sampled = event.sampling_rate < 1
        mechanism = PoissonSampledDpEvent(event.sampling_rate, gaussian) if sampled else gaussian
        accountant.compose(mechanism, event.steps)
    return float(accountant.get_epsilon(delta))


HISTORIES = [
    [SUM],
    [replace(SUM, noise_multiplier=0.6)],
    [replace(SUM, noise_multiplier=0.25)],
    [replace(SUM, noise_multiplier=20.0)],
    [SUM, STEPS],
    [SUM, SUM, Event(1.2, 0.1, 300), Event(2.0, 1.0, 1)],
]


@pytest.mark.parametrize("delta", [1e-5, 1e-7])
@pytest.mark.parametrize("events", HISTORIES)
def test_a_history_with_a_sum_is_what_a_second_accountant_says_by_renyi(
    events: list[Event], delta: float
) -> None:
    assert epsilon(events, delta) == pytest.approx(second_opinion(events, delta, RdpAccountant), rel=0.01)


@pytest.mark.parametrize("events", HISTORIES)
def test_it_is_on_the_safe_side_of_the_privacy_loss_distribution(events: list[Event]) -> None:
    exact = second_opinion(events, DELTA, PLDAccountant)
    assert exact <= epsilon(events, DELTA) <= 1.4 * exact


def test_a_sum_makes_the_whole_history_renyi_and_another_account_stays_as_it_was() -> None:
    by_renyi = second_opinion([STEPS, SUM], DELTA, RdpAccountant)
    assert epsilon([STEPS, SUM], DELTA) == pytest.approx(by_renyi, rel=0.01)
    assert epsilon([STEPS], DELTA) < 0.99 * second_opinion([STEPS], DELTA, RdpAccountant)


# The sum-of-discrete term


def test_the_distance_of_n_discrete_gaussians_from_one_is_the_published_sum() -> None:
    event = replace(SUM, shares=4, share_deviation=0.6)
    terms = [math.exp(-2 * math.pi**2 * 0.36 * k / (k + 1)) for k in (1, 2, 3)]
    assert sum_apart(event) == pytest.approx(10 * sum(terms))
    assert sum_apart(replace(event, shares=1)) == 0
    assert sum_apart(SUM) == 0


@pytest.mark.parametrize("order", [1.5, 2, 16])
def test_the_term_is_paid_in_every_coordinate(order: float) -> None:
    coarse = replace(SUM, share_deviation=1.0, shares=3)
    apart = sum_apart(coarse)
    assert apart > 1e-4
    for dimension in (1, 100, 8002):
        found = renyi_of_sum(replace(coarse, dimension=dimension), order)
        added = order / 2 / 1.2**2 + apart * dimension
        widened = order / 2 * (1 / 1.2 + math.sqrt(dimension) * apart) ** 2
        assert found == pytest.approx(min(added, widened))
        assert found > renyi_of_sum(SUM, order)


def discrete_gaussian(deviation: float, reach: int) -> NDArray[np.float64]:
    at = np.arange(-reach, reach + 1)
    weights: NDArray[np.float64] = np.exp(-(at**2) / (2 * deviation**2))
    weights /= weights.sum()
    return weights


def divergence(deviation: float, shares: int, moved: int, order: float) -> float:
    """Rényi divergence of a sum of discrete Gaussians from itself moved: by adding up its probabilities."""
    reach = 60
    one = total = discrete_gaussian(deviation, reach)
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    p, q = total[moved:], total[:-moved]
    fine = (p > 1e-290) & (q > 1e-290)
    return float(
        np.log(np.sum(np.exp(order * np.log(p[fine]) + (1 - order) * np.log(q[fine])))) / (order - 1)
    )


@pytest.mark.parametrize("order", [1.25, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("moved", [1, 2, 3])
@pytest.mark.parametrize("shares", [1, 2, 3, 5])
@pytest.mark.parametrize("deviation", [0.5, 0.7, 1.0, 3.0])
def test_the_bound_is_above_the_exact_divergence(
    deviation: float, shares: int, moved: int, order: float
) -> None:
    event = Event(deviation * math.sqrt(shares) / moved, 1.0, 1, shares, 1, deviation)
    exact = divergence(deviation, shares, moved, order)
    assert exact <= renyi_of_sum(event, order) * (1 + 1e-9)
    if deviation == 3.0:
        assert renyi_of_sum(event, order) == pytest.approx(exact, rel=0.02)


def test_without_the_term_the_bound_would_be_too_low() -> None:
    """On a grid so coarse a sum of discrete Gaussians is no Gaussian."""
    assert divergence(0.5, 3, 1, 1.25) > 1.1 * 1.25 / 2 / (0.5 * math.sqrt(3)) ** 2


@pytest.mark.parametrize("deviation", [1.0, 3.0])
def test_one_discrete_gaussian_against_its_privacy_loss_distribution(deviation: float) -> None:
    exact = privacy_loss_distribution.from_discrete_gaussian_mechanism(deviation, sensitivity=1)
    alone = Event(deviation, 1.0, 1, shares=1, dimension=1, share_deviation=deviation)
    found = epsilon([alone], DELTA)
    assert exact.get_epsilon_for_delta(DELTA) <= found <= 1.25 * exact.get_epsilon_for_delta(DELTA)


# Events


def test_the_local_event_has_the_noise_of_one_share() -> None:
    event = replace(SUM, shares=7)
    assert event.local == replace(event, shares=1, noise_multiplier=1.2 / math.sqrt(7))
    assert STEPS.local == STEPS
    assert epsilon([event.local], DELTA) > epsilon([event], DELTA)


@pytest.mark.parametrize(
    "change",
    [
        {"shares": -1},
        {"dimension": 0},
        {"share_deviation": 0.4},
        {"share_deviation": math.inf},
        {"share_deviation": math.nan},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.5},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": -1.0},
        {"steps": -1},
    ],
)
def test_a_sum_that_no_plan_makes_is_infinite(change: dict[str, float]) -> None:
    assert epsilon([replace(SUM, **change)], DELTA) == math.inf  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 20), st.integers(1, 9), st.integers(1, 3))
def test_more_noise_costs_less_and_more_sums_cost_more(sigma: float, shares: int, times: int) -> None:
    event = replace(SUM, noise_multiplier=sigma, shares=shares)
    once = epsilon([event] * times, DELTA)
    assert epsilon([replace(event, noise_multiplier=1.1 * sigma)] * times, DELTA) < once
    assert epsilon([event] * (times + 1), DELTA) > once
    assert epsilon([replace(event, steps=times)], DELTA) == pytest.approx(once)


def test_a_patient_at_several_sites_moves_one_sum_several_times_as_far() -> None:
    events = (SUM, STEPS)
    assert at_sites(events, 1) == (STEPS, SUM)
    assert at_sites(events, 3) == (STEPS, STEPS, STEPS, replace(SUM, noise_multiplier=1.2 / 3))
    assert epsilon(at_sites((SUM,), 2), DELTA) > epsilon((SUM,) * 2, DELTA)
    assert locally_at_sites(events, 2) == (SUM.local, STEPS, SUM.local, STEPS)


@pytest.mark.parametrize("target", [1.0, 8.0])
def test_the_noise_that_is_searched_for_meets_the_target_by_renyi(target: float) -> None:
    sigma = smallest_noise(lambda s: (replace(SUM, noise_multiplier=s),), target, DELTA)
    assert 0.99 * target <= epsilon([replace(SUM, noise_multiplier=sigma)], DELTA) <= target
