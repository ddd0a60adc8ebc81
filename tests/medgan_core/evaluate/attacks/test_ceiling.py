"""The ceiling is the AUC of the best test between N(0, 1) and N(μ, 1) whose ε it is."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from medgan_core.errors import InputError
from medgan_core.evaluate.attacks.ceiling import auc_ceiling, delta_of
from medgan_core.messages import Event
from medgan_core.privacy.accounting import epsilon


@pytest.mark.parametrize(("asked", "expected"), [(1, 0.575), (2, 0.639), (4, 0.743), (8, 0.881), (10, 0.921)])
def test_known_ceilings(asked: float, expected: float) -> None:
    assert auc_ceiling(asked, 1e-5) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0])
def test_it_is_the_auc_against_one_gaussian_mechanism(sigma: float) -> None:
    """ε by the accountant, and the best attacker's scores drawn: the noise itself, without and with 1."""
    told = epsilon((Event(noise_multiplier=sigma, sampling_rate=1.0, steps=1),), 1e-5)
    random = np.random.default_rng(0)
    absent, present = random.normal(0, sigma, 400_000), random.normal(1, sigma, 400_000)
    assert auc_ceiling(told, 1e-5) == pytest.approx((present > absent).mean(), abs=0.005)


@given(st.floats(0.01, 30), st.floats(0, 20))
def test_delta_is_that_of_the_privacy_loss(move: float, asked: float) -> None:
    exact = norm.cdf(move / 2 - asked / move) - math.exp(asked) * norm.cdf(-move / 2 - asked / move)
    assert delta_of(move, asked) == pytest.approx(exact, abs=1e-9)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.sampled_from([1e-9, 1e-5, 0.1]))
def test_more_epsilon_allows_more(one: float, other: float, delta: float) -> None:
    low, high = sorted((one, other))
    assert 0.5 <= auc_ceiling(low, delta) <= auc_ceiling(high, delta) <= 1


def test_no_privacy_allows_all_and_none_spent_nothing() -> None:
    assert auc_ceiling(math.inf, 1e-5) == 1
    assert auc_ceiling(0, 1e-5) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(("asked", "delta"), [(-1, 1e-5), (math.nan, 1e-5), (1, 0), (1, 1), (1, math.nan)])
def test_what_is_no_epsilon_or_delta_is_refused(asked: float, delta: float) -> None:
    with pytest.raises(InputError, match="expected"):
        auc_ceiling(asked, delta)
