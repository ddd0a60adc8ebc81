"""Per-class figures of the noisy histogram: right on average, and as sure as they say."""

import numpy as np
import pytest

from medgan_core.config import SCORE_BINS
from medgan_core.messages import Phase
from medgan_core.release.bundle import Release
from medgan_core.release.check.subgroups import accuracy_error, deviation, subgroups
from tests.medgan_core.release.check.making import histogram


def test_the_noise_is_that_of_the_receipts(release: Release) -> None:
    noise = release.card.plan.evaluation_noise_multiplier
    assert deviation(release.receipts, Phase.EVALUATE) == pytest.approx(noise * 2**0.5)
    assert np.isnan(deviation(release.receipts, "attack"))


def test_errors_hold_under_the_noise_that_the_receipts_tell(release: Release) -> None:
    """Of 400 draws of noise and patients the share is within two errors in 90 % or more, and not too wide."""
    random, noise = np.random.default_rng(0), deviation(release.receipts, Phase.EVALUATE)
    shares, errors, accuracies = [], [], []
    for _ in range(400):
        right = random.binomial(300, 0.8)
        exact = np.array(histogram({0: (right, 300 - right), 1: (90, 10)}))
        noisy = exact + random.normal(0, noise, exact.shape)
        card = release.card.model_copy(update={"metrics": {"histogram": noisy.tolist()}})
        group = subgroups(card, release.receipts, 10)[0]
        shares.append(group.right)
        errors.append(group.error)
        accuracies.append(accuracy_error(card, release.receipts))
    within = np.abs(np.array(shares) - 0.8) < 2 * np.array(errors)
    assert within.mean() >= 0.9
    assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.25)
    assert 0 < np.mean(accuracies) < np.mean(errors)


def test_without_a_histogram_there_are_no_subgroups(release: Release) -> None:
    assert subgroups(release.card, release.receipts, 1) == ()
    assert np.isnan(accuracy_error(release.card, release.receipts))


def test_a_class_below_the_least_number_is_not_assessed_also_where_noise_makes_it_negative(
    release: Release,
) -> None:
    cells = np.array(histogram({0: (80, 20)}))
    cells[1] = -1.0 / SCORE_BINS
    card = release.card.model_copy(update={"metrics": {"histogram": cells.tolist()}})
    groups = subgroups(card, release.receipts, 50)
    assert [np.isnan(group.right) for group in groups] == [False, True]
    assert groups[1].patients == pytest.approx(-2)
