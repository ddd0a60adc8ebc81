from math import isnan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medgan_core.evaluate.histogram import BINS, read_histogram, score_histogram
from medgan_core.evaluate.utility import score


def some_scores(count: int, classes: int, seed: int, margin: float = 2.5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64)
    logits += margin * torch.nn.functional.one_hot(labels, classes)
    return logits.softmax(dim=1), labels


@settings(max_examples=60, deadline=None)
@given(
    owner=st.lists(st.integers(0, 4), min_size=1, max_size=20),
    classes=st.integers(1, 5),
    seed=st.integers(0, 2**20),
    broken=st.booleans(),
)
def test_one_patient_changes_it_by_at_most_one(
    owner: list[int], classes: int, seed: int, broken: bool
) -> None:
    owners = torch.tensor(owner)
    probabilities, labels = some_scores(len(owner), classes, seed, margin=1.0)
    if broken:
        probabilities[0] = float("nan")
    full = score_histogram(probabilities, labels, owners)
    assert full.shape == (classes, classes, BINS)
    assert full.sum() == pytest.approx(len(set(owner)))
    for patient in range(5):
        rest = owners != patient
        without = score_histogram(probabilities[rest], labels[rest], owners[rest])
        assert (full - without).norm() <= 1 + 1e-9


def test_of_nobody_is_zero() -> None:
    nobody = score_histogram(
        torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    )
    assert nobody.shape == (2, 2, BINS)
    assert not nobody.any()
    assert isnan(read_histogram(nobody).accuracy)


def test_cells_by_hand() -> None:
    probabilities = torch.tensor([[0.5, 0.5], [1e-6, 1 - 1e-6], [0.01, 0.99]])  # log-odds 0, 13.8 and 4.6
    histogram = score_histogram(probabilities, torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]))
    assert histogram[0, 0, 0] == 0.5
    assert histogram[1, 1, BINS - 1] == 0.5
    assert histogram[0, 1, 4] == 1.0
    assert histogram.sum() == 2


@pytest.mark.parametrize(("classes", "margin"), [(2, 1.0), (2, 2.5), (3, 2.5), (10, 4.0)])
def test_figures_agree_with_the_exact_ones(classes: int, margin: float) -> None:
    probabilities, labels = some_scores(1500, classes, 5, margin)
    exact = score(probabilities, labels)
    read = read_histogram(score_histogram(probabilities, labels, torch.arange(1500)))
    assert read.accuracy == pytest.approx(exact.accuracy)
    assert read.balanced_accuracy == pytest.approx(exact.balanced_accuracy, abs=1e-6)
    assert read.auc == pytest.approx(exact.auc, abs=0.02)


def test_the_auc_of_a_classifier_that_is_far_too_sure_is_not_lost() -> None:
    probabilities, labels = some_scores(1500, 2, 5, 1.0)
    logits = 6 * torch.logit(probabilities[:, 1])
    sure = torch.stack([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=1)
    assert (sure.max(dim=1).values > 0.95).double().mean() > 0.7
    read = read_histogram(score_histogram(sure, labels, torch.arange(1500)))
    assert read.auc == pytest.approx(score(probabilities, labels).auc, abs=0.02)


def test_noise_leaves_figures_about_right() -> None:
    probabilities, labels = some_scores(600, 10, 7, 3.0)
    histogram = score_histogram(probabilities, labels, torch.arange(600))
    exact = read_histogram(histogram)
    generator = torch.Generator().manual_seed(0)
    noisy = [
        read_histogram(histogram + 1.5 * torch.randn(histogram.shape, generator=generator)) for _ in range(20)
    ]
    assert sum(each.accuracy for each in noisy) / 20 == pytest.approx(exact.accuracy, abs=0.05)
    assert sum(each.auc for each in noisy) / 20 == pytest.approx(exact.auc, abs=0.05)
    assert all(0 <= figure <= 1 for each in noisy for figure in (each.accuracy, each.auc))


def test_what_divides_by_a_number_of_patients_that_noise_hides_is_not_told() -> None:
    probabilities, labels = some_scores(600, 7, 7, 3.0)
    few = (labels > 0) | (torch.arange(600) < 40)  # of class 0 a handful
    histogram = score_histogram(probabilities[few], labels[few], torch.arange(int(few.sum())))
    assert not isnan(read_histogram(histogram).auc)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        read = read_histogram(histogram + 1.2 * torch.randn(histogram.shape, generator=generator), 1.2)
        assert (isnan(read.balanced_accuracy), isnan(read.auc), isnan(read.accuracy)) == (True, True, False)
    sure = read_histogram(10 * histogram + 0.1 * torch.randn(histogram.shape, generator=generator), 0.1)
    assert sure.auc == pytest.approx(read_histogram(histogram).auc, abs=0.01)


def test_a_class_that_noise_took_away_has_no_auc() -> None:
    histogram = torch.zeros(2, 2, BINS)
    histogram[0, 0, 3], histogram[1, 1, 3] = 4.0, -1.0
    scores = read_histogram(histogram)
    assert scores.accuracy == 1.0
    assert isnan(scores.auc)
    assert isnan(scores.balanced_accuracy)
