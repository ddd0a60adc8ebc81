"""The discrete Gaussian of secure sums."""

import math

import numpy as np
import pytest

from medgan_core.privacy.noise import DiscreteRandom, Keystream, SeededRandom, discrete_gaussian

COUNT = 40_000


def test_it_has_the_probabilities_of_the_discrete_gaussian() -> None:
    drawn, deviation = discrete_gaussian(COUNT, 1.3), 1.3
    weights = {at: math.exp(-(at**2) / (2 * deviation**2)) for at in range(-40, 41)}
    whole = sum(weights.values())
    chi_square = sum(
        (np.sum(drawn == at) - COUNT * weights[at] / whole) ** 2 / (COUNT * weights[at] / whole)
        for at in range(-4, 5)
    )
    assert chi_square < 45  # 9 cells; once in a million where the sampler is right
    assert drawn.dtype == np.int64


def test_its_deviation_on_a_fine_grid_is_what_was_asked() -> None:
    drawn = discrete_gaussian(COUNT, 0.7 * 2**20)
    assert drawn.std() == pytest.approx(0.7 * 2**20, rel=5 / math.sqrt(2 * COUNT))
    assert abs(drawn.mean()) < 5 * 0.7 * 2**20 / math.sqrt(COUNT)
    assert len(np.unique(drawn)) > 0.97 * COUNT


def test_every_draw_is_another() -> None:
    source = Keystream()
    assert not np.array_equal(source.discrete(100, 1e6), source.discrete(100, 1e6))


def test_no_deviation_is_no_noise() -> None:
    assert not discrete_gaussian(10, 0.0).any()
    assert not SeededRandom(0).discrete(10, 0.0).any()


def test_the_source_of_the_process_draws_on_the_grid_and_the_one_of_tests_repeats_itself() -> None:
    assert isinstance(Keystream(), DiscreteRandom)
    first, second = (SeededRandom(3).discrete(COUNT, 50.0) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.std() == pytest.approx(50, rel=0.02)
