"""The gate's query moves by at most 1 with any patient, and its verdict is what its words say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medgan_core.config import GATE_SIZE
from medgan_core.evaluate.gate import (
    advantage_grid_sum,
    advantage_sum,
    advantage_terms,
    decide,
)
from medgan_core.privacy.grid import STEPS, sensitivity

NORM = math.sqrt(1.25)
_PROBABILITY = st.floats(allow_nan=True, allow_infinity=True, width=32)
_IMAGE = st.tuples(*[_PROBABILITY] * 6, st.integers(0, 2))
_PATIENT = st.lists(_IMAGE, min_size=1, max_size=4)


def batch(patients: list[list[tuple[float, ...]]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Probabilities of both classifiers, labels and owners."""
    images = [image for patient in patients for image in patient]
    values = torch.tensor([image[:6] for image in images], dtype=torch.float64).reshape(-1, 2, 3)
    labels = torch.tensor([int(image[6]) for image in images], dtype=torch.int64)
    owner = torch.arange(len(patients)).repeat_interleave(torch.tensor([len(p) for p in patients]))
    return values[:, 0], values[:, 1], labels, owner


def told(right: list[bool], other: list[bool], owner: list[int]) -> Tensor:
    """The sum where these images are told rightly by the refined generator's classifier and by the other."""
    labels = torch.ones(len(owner), dtype=torch.int64)
    refined, one_shot = (torch.eye(2)[torch.tensor(answers).long()] for answers in (right, other))
    return advantage_sum(refined, one_shot, labels, torch.tensor(owner))


@settings(deadline=None)
@given(st.lists(_PATIENT, min_size=1, max_size=5))
def test_one_patient_moves_the_sum_by_at_most_one(patients: list[list[tuple[float, ...]]]) -> None:
    whole = advantage_sum(*batch(patients))
    alone = advantage_sum(*batch(patients[-1:]))
    without = advantage_sum(*batch(patients[:-1])) if patients[:-1] else torch.zeros(GATE_SIZE)
    assert torch.allclose(whole - without, alone)
    assert float(alone.norm()) <= 1 + 1e-12
    assert not whole[2:].any()


@settings(deadline=None)
@given(st.lists(_PATIENT, min_size=1, max_size=5))
def test_on_the_grid_it_is_the_same_and_moves_by_no_more_than_is_paid_for(
    patients: list[list[tuple[float, ...]]],
) -> None:
    whole = advantage_grid_sum(*batch(patients))
    assert whole.dtype == torch.int64
    images = sum(map(len, patients))
    assert (whole / STEPS - advantage_sum(*batch(patients))).abs().max() <= images / 2 / STEPS
    alone = advantage_grid_sum(*batch(patients[-1:])).double()
    assert float(alone.norm()) <= sensitivity(4, GATE_SIZE)


def test_an_image_counts_where_only_one_of_the_two_is_right() -> None:
    labels, owner = torch.tensor([1, 1, 1, 1]), torch.arange(4)
    right, wrong = torch.tensor([0.2, 0.8]), torch.tensor([0.6, 0.4])
    refined = torch.stack([right, right, wrong, wrong])
    one_shot = torch.stack([wrong, right, right, wrong])
    terms = advantage_terms(refined, one_shot, labels, owner) * NORM
    assert terms[:, 0].tolist() == pytest.approx([1, 0, -1, 0])
    assert terms[:, 1].tolist() == pytest.approx([0.5, 0, 0.5, 0])


def test_a_patient_weighs_one_whatever_the_number_of_images() -> None:
    many = told([True] * 9 + [False], [False] * 9 + [True], [0] * 9 + [1])
    assert many[:2].tolist() == pytest.approx([0, 1 / NORM])


def test_without_noise_the_gain_is_that_in_accuracy_and_the_interval_mcnemars() -> None:
    right, other = [True] * 30 + [False] * 10 + [True] * 60, [False] * 30 + [True] * 10 + [True] * 60
    verdict = decide(told(right, other, list(range(100))), 0.0, 100)
    assert verdict.kept == "refined"
    assert (verdict.gain, verdict.noise, verdict.error_rate) == approx(0.2, 0, 0)
    half = 1.959964 * math.sqrt((40 - 400 / 100) / 100**2)
    assert (verdict.low, verdict.high) == approx(0.2 - half, 0.2 + half)
    assert verdict.resolved == 0


def approx(*figures: float) -> object:
    return pytest.approx(figures, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize(("advantage", "kept"), [(1e-9, "refined"), (0.0, "one_shot"), (-1e-9, "one_shot")])
def test_the_sign_decides_and_a_tie_is_the_one_shots(advantage: float, kept: str) -> None:
    noisy = torch.zeros(GATE_SIZE, dtype=torch.float64)
    noisy[0] = advantage
    assert decide(noisy, 3.0, 50).kept == kept


def test_the_error_rate_is_how_often_noise_turns_the_sign() -> None:
    """A true sum of this size, and the noise that the plan adds: counted."""
    deviation, patients, advantage = 4.0, 200.0, 5.0
    noisy = torch.tensor([advantage / NORM, 0.0]).double()
    verdict = decide(noisy, deviation, patients)
    drawn = np.random.default_rng(0).normal(advantage / NORM, deviation, 40_000)
    assert verdict.error_rate == pytest.approx((drawn <= 0).mean(), abs=0.01)
    assert verdict.noise == pytest.approx(deviation * NORM / patients)
    mistaken = np.random.default_rng(1).normal(verdict.resolved, verdict.noise, 40_000) <= 0
    assert mistaken.mean() == pytest.approx(0.05, abs=0.005)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Patients drawn anew, and noise: the disagreement is read from the same noisy query."""
    random, gain, deviation, patients, trials = np.random.default_rng(2), 0.05, 3.0, 400, 2000
    outcomes = random.choice([1, -1, 0], p=[0.1, 0.05, 0.85], size=(trials, patients))
    sums = np.stack([outcomes.sum(1), 0.5 * np.abs(outcomes).sum(1)], 1) / NORM
    noisy = torch.from_numpy(sums + random.normal(0, deviation, sums.shape))
    verdicts = [decide(row, deviation, patients) for row in noisy]
    assert np.mean([v.low <= gain <= v.high for v in verdicts]) == pytest.approx(0.95, abs=0.02)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(0, 1e3), st.floats(1, 1e5))
def test_whatever_the_noise_the_figures_are_finite_and_ordered(
    first: float, second: float, deviation: float, patients: float
) -> None:
    verdict = decide(torch.tensor([first, second]).double(), deviation, patients)
    assert -math.inf < verdict.low <= verdict.gain <= verdict.high < math.inf
    assert 0 <= verdict.error_rate <= 0.5
