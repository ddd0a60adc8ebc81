"""Sampled sums of discrete Gaussians: against exact divergences, both ways, and against the Gaussian's."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from opacus.accountants.analysis import rdp

from medgan_core.messages import Event
from medgan_core.privacy.accounting import at_sites, epsilon, locally_at_sites, renyi_of_sum, smallest_noise
from medgan_core.privacy.sampled import sampled

DELTA, REACH = 1e-5, 60
STEP = Event(1.2, 0.05, 300, 2, 10_577, 2.0**20)
ORDERS = (1.5, 2, 3, 4.5, 5)


def noise(deviation: float, shares: int) -> NDArray[np.float64]:
    """The probabilities of a sum of discrete Gaussians, about 0."""
    at = np.arange(-REACH, REACH + 1)
    one = np.exp(-(at**2) / (2 * deviation**2))
    one /= one.sum()
    total = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    return total


def divergence(p: NDArray[np.float64], q: NDArray[np.float64], order: float) -> float:
    fine = (p > 1e-290) & (q > 1e-290)
    return float(
        np.log(np.sum(np.exp(order * np.log(p[fine]) + (1 - order) * np.log(q[fine])))) / (order - 1)
    )


def moved(p: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    return np.pad(p, (20 + by, 20 - by))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
@pytest.mark.parametrize(("deviation", "shares"), [(0.5, 3), (0.7, 2), (1.0, 1), (3.0, 5)])
@pytest.mark.parametrize("by", [-2, 1, 3])
def test_the_bound_is_above_the_exact_divergence_both_ways(
    deviation: float, shares: int, by: int, rate: float, order: float
) -> None:
    total = noise(deviation, shares)
    without = moved(total, 0)
    with_patient = (1 - rate) * without + rate * moved(total, by)
    event = Event(deviation * math.sqrt(shares) / abs(by), rate, 1, shares, 1, deviation)
    [bound] = sampled(lambda alpha: renyi_of_sum(event, alpha), rate, [order])
    assert divergence(with_patient, without, order) <= bound * (1 + 1e-9)
    assert divergence(without, with_patient, order) <= bound * (1 + 1e-9)
    if deviation == 3.0 and order == int(order):
        assert bound == pytest.approx(divergence(with_patient, without, order), rel=0.03)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rate", [0.05, 0.5])
@pytest.mark.parametrize("by", [(1, 2), (-2, 2), (2, 2)])
def test_a_patient_at_two_sites_is_sampled_at_each_and_the_bound_holds(
    by: tuple[int, int], rate: float, order: float
) -> None:
    """Two coins: four outcomes, of which each site's move is at most 2."""
    deviation = 3.0
    total = noise(deviation, 1)
    without = moved(total, 0)
    once = rate * (1 - rate) * (moved(total, by[0]) + moved(total, by[1]))
    mixture = (1 - rate) ** 2 * without + once + rate**2 * moved(total, sum(by))
    [event] = at_sites((Event(deviation / 2, rate, 1, 1, 1, deviation),), 2)
    [bound] = sampled(lambda alpha: renyi_of_sum(event, alpha), event.sampling_rate, [order])
    assert divergence(mixture, without, order) <= bound * (1 + 1e-9)
    assert divergence(without, mixture, order) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("sigma", [0.5, 1.2, 10.0])
def test_it_is_never_below_the_gaussian_and_equal_at_whole_orders(sigma: float, rate: float) -> None:
    event = replace(STEP, noise_multiplier=sigma, sampling_rate=rate)
    orders = [1.1, 1.9, 2, 3, 7.5, 12, 63, 256]
    found = sampled(lambda order: renyi_of_sum(event, order), rate, orders)
    gaussian = rdp.compute_rdp(q=rate, noise_multiplier=sigma, steps=1, orders=orders)
    assert np.all(found >= np.asarray(gaussian) * (1 - 1e-9))
    whole = [order == int(order) for order in orders]
    assert found[whole] == pytest.approx(np.asarray(gaussian)[whole], rel=1e-6)


def test_a_coarse_grid_costs_more_than_the_gaussian() -> None:
    coarse = replace(STEP, share_deviation=1.0)
    assert epsilon([coarse], DELTA) > 1.01 * epsilon([STEP], DELTA)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.3, 10), st.floats(1e-4, 0.99), st.sampled_from(ORDERS))
def test_sampling_helps_and_less_of_it_more(sigma: float, rate: float, order: float) -> None:
    event = replace(STEP, noise_multiplier=sigma)

    def found(q: float) -> float:
        return float(sampled(lambda alpha: renyi_of_sum(event, alpha), q, [order])[0])

    figures = [found(q) for q in (rate / 2, rate, 1.0)]
    assert all(low <= high * (1 + 1e-12) for low, high in pairwise(figures))
    assert figures[-1] == renyi_of_sum(event, order)


@pytest.mark.parametrize("steps", [1, 400])
def test_epsilon_of_steps_is_never_below_that_of_prv(steps: int) -> None:
    found = epsilon([replace(STEP, steps=steps)], DELTA)
    exact = epsilon([Event(STEP.noise_multiplier, STEP.sampling_rate, steps)], DELTA)
    assert exact <= found <= max(1.35 * exact, exact + 0.5)


def test_steps_add_up_whether_they_are_charged_together_or_one_by_one() -> None:
    one = replace(STEP, steps=1)
    assert epsilon([one] * 30, DELTA) == epsilon([replace(STEP, steps=30)], DELTA)
    assert epsilon([one] * 31, DELTA) > epsilon([one] * 30, DELTA)


def test_without_trust_only_the_own_share_counts() -> None:
    assert STEP.local == replace(STEP, shares=1, noise_multiplier=1.2 / math.sqrt(2))
    assert epsilon(locally_at_sites((STEP,), 1), DELTA) > epsilon((STEP,), DELTA)
    assert at_sites((STEP,), 1) == (STEP,)


def test_the_noise_that_is_searched_for_meets_the_target() -> None:
    sigma = smallest_noise(lambda s: (replace(STEP, noise_multiplier=s),), 4.0, DELTA)
    assert 0.99 * 4 <= epsilon([replace(STEP, noise_multiplier=sigma)], DELTA) <= 4
