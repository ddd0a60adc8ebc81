"""Without noise the AUC is exact; with it, intervals hold the truth, and null scores prove nothing."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score, roc_curve

from medgan_core.errors import IntegrityError
from medgan_core.evaluate.attacks.bins import BINS
from medgan_core.evaluate.attacks.figures import AttackFigures, bound, read_attacks
from tests.medgan_core.evaluate.attacks.cases import Floats, cells_of, drawn, noisy

NAMES = ("discriminator", "nearest", "density", "inversion")
_BINS = st.lists(st.integers(0, BINS - 1), min_size=1, max_size=30)
_CELLS = arrays(np.float64, (2, 2, BINS), elements=st.floats(-1e6, 1e6))


def read(cells: Sequence[Floats], noise: float = 0.0) -> AttackFigures:
    """Of the cells of members and of others."""
    members, others = cells
    return read_attacks(NAMES[: len(members)], members, others, noise, noise)


@settings(deadline=None)
@given(_BINS, _BINS, st.integers(1, 4))
def test_without_noise_it_is_the_exact_auc(members: list[int], others: list[int], attacks: int) -> None:
    """Of every attack, ties one half; and the ROC curve goes through the points of the exact one."""
    both = [np.tile(np.array(each)[:, None], attacks) for each in (members, others)]
    found = read([cells_of(each, np.arange(len(each)) % 2) for each in both])
    truth = [1] * len(members) + [0] * len(others)
    expected = roc_auc_score(truth, members + others)
    assert [each.auc for each in found.figures] == pytest.approx([expected] * attacks)
    assert (found.members, found.held_out) == pytest.approx((len(members), len(others)))
    false, true, _ = roc_curve(truth, members + others, drop_intermediate=False)
    roc = np.array(found.figures[0].roc)
    assert all(np.abs(roc - point).sum(axis=1).min() < 1e-9 for point in zip(false, true, strict=True))
    assert np.trapezoid(roc[:, 1], roc[:, 0]) == pytest.approx(expected)


def test_the_control_compares_one_half_of_the_members_with_the_other() -> None:
    bins = np.array([[11], [11], [0], [0]])
    found = read([cells_of(bins, np.array(halves)) for halves in ((0, 0, 1, 1), (0, 1, 0, 1))])
    assert (found.figures[0].control, found.figures[0].auc) == (1.0, 0.5)


def test_a_patient_weighs_one_whatever_the_number_of_images() -> None:
    """Nine images in the top bin are one patient beside the one whose image lies at the bottom."""
    members = np.zeros((1, 2, BINS))
    members[0, 0, 11], members[0, 1, 0] = 1, 1
    others = np.zeros((1, 2, BINS))
    others[0, 0, 5] = 4
    found = read([members, others])
    assert (found.figures[0].auc, found.members, found.held_out) == (0.5, 2, 4)


@pytest.mark.parametrize(
    ("members", "others", "noise"),
    [(3, 3, 0.0), (85, 15, 0.0), (100, 100, 0.0), (850, 150, 3.0), (5000, 900, 8.0), (100, 20, 3.0)],
)
def test_null_scores_prove_nothing(members: int, others: int, noise: float) -> None:
    """In at least 95 of 100 families no lower bound is above one half, and controls hold in 99."""
    random, families = np.random.default_rng(7), 300
    above = left = 0
    for _ in range(families):
        cells = [noisy(drawn(n, 4, random), noise, random) for n in (members, others)]
        found = read(cells, noise).figures
        above += any(each.low > 0.5 for each in found)
        left += any(not each.control_low <= 0.5 <= each.control_high for each in found)
    assert above <= families * 0.05 + 2 * math.sqrt(families * 0.05 * 0.95)
    assert left <= families * 0.01 + 3 * math.sqrt(families * 0.01 * 0.99)


@pytest.mark.parametrize(("shift", "noise"), [(0.0, 3.0), (1.0, 0.0), (1.0, 3.0), (2.0, 1.0)])
def test_intervals_hold_the_truth_and_the_deviation_is_its_own(shift: float, noise: float) -> None:
    """Of all four attacks together, in at least 95 of 100 runs on either side."""
    random, runs = np.random.default_rng(8), 400
    many = [drawn(200_000, 1, random, each) for each in (shift, 0.0)]
    truth = read(many).figures[0].auc
    found = [
        read([noisy(drawn(n, 4, random, s), noise, random) for n, s in ((1500, shift), (300, 0.0))], noise)
        for _ in range(runs)
    ]
    slack = 2 * math.sqrt(runs * 0.05 * 0.95)
    assert sum(any(e.low > truth for e in each.figures) for each in found) <= runs * 0.05 + slack
    assert sum(any(e.high < truth for e in each.figures) for each in found) <= runs * 0.05 + slack
    spread = np.std([e.auc for each in found for e in each.figures])
    told = np.median([e.deviation for each in found for e in each.figures])
    assert 0.9 * spread <= told <= (1.15 if noise and shift < 2 else 2.5) * spread


def test_patients_with_several_images_do_not_make_the_interval_too_narrow() -> None:
    """Ten images in bins of their own make a patient's mean, which varies less than one image does."""
    random = np.random.default_rng(9)
    aucs, told = [], []
    for _ in range(300):
        cells = [random.multinomial(10, np.full(BINS, 1 / BINS), 60) / 10 for _ in range(2)]
        sums = [np.stack([each[:30].sum(0), each[30:].sum(0)])[None] for each in cells]
        found = read(sums).figures[0]
        aucs.append(found.auc)
        told.append(found.deviation)
    assert np.std(aucs) < np.median(told)


def test_noise_that_hides_the_patients_leaves_the_auc_open() -> None:
    random = np.random.default_rng(1)
    found = read([noisy(drawn(5, 2, random), 50.0, random) for _ in range(2)], 50.0)
    for each in found.figures:
        assert (each.auc, each.low, each.high, each.deviation) == (0.5, 0, 1, 0.5)
        assert (each.control_low, each.control_high) == (0, 1)


def test_the_noise_of_the_patients_number_is_shared_by_all_attacks() -> None:
    random = np.random.default_rng(4)
    members, others = (np.repeat(drawn(count, 1, random), 4, axis=0) for count in (2000, 400))
    off = np.zeros_like(others)
    off[1] += 8.0  # one attack counts many patients too many
    even, uneven = (read([members, cells]) for cells in (others, others + off))
    assert even.figures[1].deviation == pytest.approx(uneven.figures[0].deviation, rel=0.2)
    assert {round(each.deviation, 9) for each in uneven.figures} == {round(uneven.figures[0].deviation, 9)}


@settings(deadline=None)
@given(_CELLS, _CELLS, st.floats(0, 1e4), st.floats(0, 1e4))
def test_whatever_the_cells_the_figures_are_in_range(
    members: Floats, others: Floats, first: float, second: float
) -> None:
    found = read_attacks(NAMES[:2], members, others, first, second)
    for each in found.figures:
        assert 0 <= each.low <= each.auc <= each.high <= 1
        assert 0 <= each.control_low <= each.control <= each.control_high <= 1
        assert 0 <= each.deviation <= 0.5
        rates = np.array(each.roc)
        assert rates.shape == (BINS + 1, 2)
        assert rates[[0, -1]].tolist() == [[0, 0], [1, 1]]
        assert (np.diff(rates, axis=0) >= 0).all()
    assert AttackFigures.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


def test_a_trace_of_a_patient_is_nobody() -> None:
    trace = np.full((1, 2, BINS), 1e-200)
    assert read([trace, trace]).figures[0].deviation == 0.5


def test_more_attacks_widen_the_interval() -> None:
    assert bound(0.05, 1) == pytest.approx(1.6449, abs=1e-4)
    assert bound(0.05, 4) == pytest.approx(2.2414, abs=1e-4)


def test_no_attack_at_all_has_no_figures() -> None:
    assert read_attacks((), np.zeros((0, 2, BINS)), np.zeros((0, 2, BINS)), 1, 1) == AttackFigures(0, 0, ())


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 2, 11)), np.zeros((1, 2, BINS)), np.full((2, 2, BINS), np.nan)]
)
def test_cells_of_another_shape_or_without_a_value_are_refused(wrong: Floats) -> None:
    right = np.ones((2, 2, BINS))
    for members, others in ((wrong, right), (right, wrong)):
        with pytest.raises(IntegrityError, match="expected finite ones of"):
            read_attacks(NAMES[:2], members, others, 1, 1)


@pytest.mark.parametrize("noise", [-1.0, math.nan, math.inf])
def test_noise_of_no_size_is_refused(noise: float) -> None:
    with pytest.raises(IntegrityError, match="noise"):
        read_attacks(NAMES[:1], np.ones((1, 2, BINS)), np.ones((1, 2, BINS)), 1, noise)


def test_damaged_figures_are_refused() -> None:
    whole = read([np.ones((1, 2, BINS))] * 2).to_json()
    for body in ({}, {**whole, "figures": [{"name": "x"}]}, {**whole, "members": "many"}):
        with pytest.raises(IntegrityError, match="attack figures"):
            AttackFigures.from_json(body)
