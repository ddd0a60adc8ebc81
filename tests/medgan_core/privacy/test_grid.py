import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.errors import RoundError
from medgan_core.evaluate.histogram import BINS, score_grid_histogram, score_histogram
from medgan_core.messages import Event
from medgan_core.privacy.embedding import patient_grid_sum, patient_sum
from medgan_core.privacy.grid import (
    STEPS,
    read,
    room,
    sensitivity,
    share_deviation,
    to_grid,
    to_words,
    total_deviation,
)

CLASSES, WEIGHT = 3, 0.2


def images(seed: int, owners: list[int], size: int = 7) -> tuple[Any, Any, Any]:
    """Features of norm 1 and more, labels and owners."""
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(len(owners), size, generator=random)
    return features, torch.randint(0, CLASSES, (len(owners),), generator=random), torch.tensor(owners)


def without(owner: int, drawn: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    kept = drawn[2] != owner
    return drawn[0][kept], drawn[1][kept], drawn[2][kept]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 5))
def test_one_patient_moves_a_sum_on_the_grid_by_no_more_than_is_paid_for(
    seed: int, most: int, others: int
) -> None:
    owners = [0] * most + [1 + i // 2 for i in range(others)]
    drawn = images(seed, owners)
    whole = patient_grid_sum(*drawn, CLASSES, WEIGHT)
    rest = patient_grid_sum(*without(0, drawn), CLASSES, WEIGHT)
    moved = float((whole - rest).double().norm())
    assert moved <= sensitivity(most, whole.numel())


def test_the_rounding_that_is_paid_for_can_happen() -> None:
    """Terms just above half a step: rounding moves each coordinate by nearly half a step, up."""
    terms = torch.full((4, 100), 0.5001 / STEPS, dtype=torch.float64)
    moved = (to_grid(terms).sum(0) - terms.sum(0) * STEPS).norm()
    assert moved == pytest.approx(4 * math.sqrt(100) / 2, rel=1e-3)
    assert sensitivity(4, 100) == STEPS + 20


def test_rounding_adds_next_to_nothing() -> None:
    assert sensitivity(4, 250_000) < STEPS * 1.001
    assert sensitivity(4, 8002) < STEPS * 1.0002


def test_a_sum_on_the_grid_is_the_sum_up_to_its_rounding() -> None:
    drawn = images(1, [0, 0, 1, 2, 2, 2, 3])
    exact = patient_sum(*drawn, CLASSES, WEIGHT)
    assert (patient_grid_sum(*drawn, CLASSES, WEIGHT) / STEPS - exact).abs().max() <= 7 / 2 / STEPS


def test_a_histogram_on_the_grid_is_the_histogram_up_to_its_rounding() -> None:
    random = torch.Generator().manual_seed(0)
    scores = torch.rand(50, CLASSES, generator=random).softmax(1)
    labels, owner = torch.randint(0, CLASSES, (50,), generator=random), torch.arange(50) // 3
    on_grid = score_grid_histogram(scores, labels, owner)
    assert on_grid.shape == (CLASSES, CLASSES, BINS)
    assert on_grid.dtype == torch.int64
    assert (on_grid / STEPS - score_histogram(scores, labels, owner)).abs().max() <= 25 / STEPS


def test_sums_are_whole_numbers_so_their_order_changes_nothing() -> None:
    features, labels, owner = images(3, [0, 1, 2, 3, 4])
    turned = patient_grid_sum(features.flip(0), labels.flip(0), owner.flip(0), CLASSES, WEIGHT)
    assert torch.equal(turned, patient_grid_sum(features, labels, owner, CLASSES, WEIGHT))


def test_images_that_are_not_finite_count_as_absent() -> None:
    drawn = images(4, [0, 1, 1])
    drawn[0][0, 2] = math.nan
    assert torch.equal(
        patient_grid_sum(*drawn, CLASSES, WEIGHT), patient_grid_sum(*without(0, drawn), CLASSES, WEIGHT)
    )
    assert to_grid(torch.tensor([math.nan, math.inf])).tolist() == [0, 0]


@given(st.lists(st.integers(-(2**61), 2**61), min_size=1, max_size=5))
def test_words_read_back_as_what_they_were(steps: list[int]) -> None:
    array = np.array(steps, dtype=np.int64)
    assert read(to_words(array)).tolist() == [step / STEPS for step in array.astype(float)]


def test_negative_sums_wrap_around_and_back() -> None:
    parts = [np.array([-5 * STEPS]), np.array([3 * STEPS])]
    assert read(to_words(parts[0]) + to_words(parts[1])).tolist() == [-2.0]


@pytest.mark.parametrize("word", [2**62, 2**63, 2**64 - 2**62])
def test_a_sum_beyond_all_plausible_values_is_refused(word: int) -> None:
    with pytest.raises(RoundError, match="beyond all plausible values"):
        read(np.array([0, word], dtype=np.uint64))


def test_there_is_room_for_a_quarter_of_a_trillion_patients_and_the_noise() -> None:
    assert room(10_000 * STEPS * 100)
    assert not room(2.0**56)
    assert 2**38 * STEPS + 64 * 10_000 * STEPS * 100 < 2**62


@given(st.floats(0.1, 1e4), st.integers(1, 50), st.integers(1, 8), st.integers(1, 10**6))
def test_shares_add_up_to_the_multiplier_of_the_inflated_sensitivity(
    sigma: float, shares: int, most: int, dimension: int
) -> None:
    one = share_deviation(sigma, shares, most, dimension)
    assert one * math.sqrt(shares) / sensitivity(most, dimension) == pytest.approx(sigma)
    assert one > 0.5


@pytest.mark.parametrize("sites", [1, 3, 7])
def test_the_noise_in_a_total_is_that_of_all_who_are_in_it(sites: int) -> None:
    assert total_deviation(Event(2.0, 1.0, 1), sites) == pytest.approx(2.0 * math.sqrt(sites))
    share = share_deviation(2.0, 2, 4, 64)
    summed = Event(2.0, 1.0, 1, shares=2, dimension=64, share_deviation=share)
    assert total_deviation(summed, sites) == pytest.approx(2.0 * math.sqrt(sites / 2), rel=1e-4)
