import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm

from medgan_core.messages import Event
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.audit import bounds


@pytest.mark.parametrize("move", [0.2, 1.0, 3.0])
def test_a_move_is_bounded_from_below_and_nearly_reached(move: float) -> None:
    random = np.random.default_rng(0)
    absent = random.normal(0, 1 / move, 20_000)
    present = random.normal(1, 1 / move, 20_000)
    found = bounds.gaussian_move(absent, present)
    assert 0.7 * move < found <= move


def test_the_errors_are_those_of_clopper_and_pearson() -> None:
    absent, present = np.r_[np.zeros(90), np.ones(10)], np.r_[np.ones(80), np.zeros(20)]
    wrong, missed = beta.ppf(0.975, 11, 90), beta.ppf(0.975, 21, 80)
    assert bounds.gaussian_move(absent, present) == pytest.approx(-norm.ppf(wrong) - norm.ppf(missed))


def test_the_bound_of_a_move_misses_once_in_twenty() -> None:
    random = np.random.default_rng(1)
    missed = sum(
        bounds.gaussian_move(random.normal(0, 1, 500), random.normal(1, 1, 500)) > 1.0 for _ in range(400)
    )
    assert missed <= 20


def test_scores_that_are_all_alike_show_nothing() -> None:
    assert bounds.gaussian_move(np.ones(50), np.ones(50)) == 0.0
    assert bounds.gaussian_move(np.zeros(50), np.zeros(50)) == 0.0


def test_no_move_is_no_epsilon_and_the_move_of_the_noise_is_the_plan_s() -> None:
    event = Event(2.0, 0.1, 10)
    assert bounds.epsilon_of_move(0.0, event, 1e-5) == 0.0
    assert bounds.epsilon_of_move(0.5, event, 1e-5) == epsilon((event,), 1e-5)


def test_a_mean_that_moves_twice_as_far_is_seen() -> None:
    random = np.random.default_rng(2)
    absent, once, twice = (random.normal(mean, 3, 4000) for mean in (0, 1, 2))
    assert bounds.moved_too_far(absent, once, 3.0) > 1e-3
    assert bounds.moved_too_far(absent, twice, 3.0) < 1e-6


def test_one_canary_that_moves_too_far_is_seen_among_many() -> None:
    moves = np.random.default_rng(3).normal(1, 2, (50, 100))
    assert bounds.any_too_far(moves, 2.0) > 1e-3
    moves[:, 17] += 5
    assert bounds.any_too_far(moves, 2.0) < 1e-6


@pytest.mark.parametrize(
    ("guesses", "right", "least", "most"), [(100, 100, 2.5, 4.0), (1000, 900, 1.7, 2.2), (100, 50, 0.0, 0.0)]
)
def test_guesses_of_one_run_are_worth_what_the_paper_says(
    guesses: int, right: int, least: float, most: float
) -> None:
    """Pure ε: of 100 right guesses at 95 %, ln(q / (1 - q)) with q = 0.05^(1/100) is 3.49."""
    assert least <= bounds.one_run(guesses, right, guesses, 0.0) <= most
    if right == guesses:
        q = 0.05 ** (1 / guesses)
        assert bounds.one_run(guesses, right, guesses, 0.0) == pytest.approx(math.log(q / (1 - q)), abs=2e-3)


def test_delta_makes_the_bound_of_one_run_weaker() -> None:
    found = [bounds.one_run(400, 360, 1000, delta) for delta in (0.0, 1e-5, 1e-3)]
    assert found[0] >= found[1] > found[2]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(200, 0.01), (200, 0.3), (50, 0.05), (5, 0.5)]))
def test_binomial_counts_are_no_surprise(seed: int, law: tuple[int, float]) -> None:
    counts = np.random.default_rng(seed).binomial(*law, 1000)
    assert bounds.dispersion_p_value(counts, *law) > 1e-6


@pytest.mark.parametrize("counts", [np.full(1000, 20), np.repeat([10, 30], 500)])
def test_counts_that_are_too_even_or_too_uneven_are(
    counts: "np.ndarray[tuple[int], np.dtype[np.int64]]",
) -> None:
    assert bounds.dispersion_p_value(counts, 200, 0.1) < 1e-6


def test_a_rate_of_one_leaves_no_choice() -> None:
    assert bounds.dispersion_p_value(np.full(5, 7), 7, 1.0) == 1.0
    assert bounds.dispersion_p_value(np.array([7, 6]), 7, 1.0) == 0.0


def test_hits_are_binomial() -> None:
    assert bounds.binomial_p_value(100, 1000, 0.1) > 0.9
    assert bounds.binomial_p_value(200, 1000, 0.1) < 1e-6
    assert bounds.binomial_p_value(40, 1000, 0.1) < 1e-6
