"""The cells of attacks move by at most 1 with any patient, and say what each image's bin was."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medgan_core.evaluate.attacks.bins import BINS, attack_grid_sum, attack_sum
from medgan_core.privacy.grid import STEPS, sensitivity

ATTACKS = 4
_IMAGE = st.tuples(*[st.integers(0, BINS - 1)] * ATTACKS)
_PATIENT = st.tuples(st.lists(_IMAGE, min_size=1, max_size=4), st.integers(0, 1))
_PATIENTS = st.lists(_PATIENT, min_size=1, max_size=5)
Patients = list[tuple[list[tuple[int, ...]], int]]


def batch(patients: Patients) -> tuple[Tensor, Tensor, Tensor]:
    cells = torch.tensor([image for images, _ in patients for image in images], dtype=torch.int64)
    counts = torch.tensor([len(images) for images, _ in patients], dtype=torch.int64)
    owner = torch.arange(len(patients)).repeat_interleave(counts)
    return cells.reshape(-1, ATTACKS), owner, torch.tensor([half for _, half in patients], dtype=torch.int64)


@settings(deadline=None)
@given(_PATIENTS)
def test_one_patient_moves_the_sum_by_at_most_one(patients: Patients) -> None:
    whole, alone = attack_sum(*batch(patients)), attack_sum(*batch(patients[-1:]))
    without = attack_sum(*batch(patients[:-1]))
    assert torch.allclose(whole - without, alone)
    assert float(alone.norm()) <= 1 + 1e-12
    assert float(alone.sum()) == pytest.approx(ATTACKS / math.sqrt(ATTACKS))


@settings(deadline=None)
@given(_PATIENTS)
def test_on_the_grid_it_is_the_same_and_moves_by_no_more_than_is_paid_for(patients: Patients) -> None:
    whole = attack_grid_sum(*batch(patients))
    assert whole.dtype == torch.int64
    images = sum(len(images) for images, _ in patients)
    assert (whole / STEPS - attack_sum(*batch(patients))).abs().max() <= images / 2 / STEPS
    alone = attack_grid_sum(*batch(patients[-1:])).double()
    assert float(alone.norm()) <= sensitivity(4, ATTACKS * 2 * BINS)
    assert torch.equal(whole - attack_grid_sum(*batch(patients[:-1])), alone.long())


def test_the_sensitivity_is_reached() -> None:
    """A patient whose images all share their bins moves the sum by exactly 1: no weight is given away."""
    assert float(attack_sum(*batch([([(3, 0, 11, 5)] * 3, 1)])).norm()) == pytest.approx(1)


def test_an_image_counts_in_its_half_and_bin_and_patients_weigh_alike() -> None:
    patients: Patients = [([(0, 1, 2, 3), (0, 5, 2, 3)], 0), ([(0, 1, 2, 4)], 1)]
    found = attack_sum(*batch(patients)) * math.sqrt(ATTACKS)
    expected = torch.zeros(ATTACKS, 2, BINS, dtype=torch.float64)
    expected[0, :, 0] = expected[2, :, 2] = 1
    expected[1, 0, 1] = expected[1, 0, 5] = 0.5
    expected[1, 1, 1] = expected[3, 0, 3] = expected[3, 1, 4] = 1
    assert torch.allclose(found, expected)


@pytest.mark.parametrize(("cell", "half", "place"), [(-7, 0, (0, 0)), (99, 5, (1, BINS - 1))])
def test_what_is_out_of_range_still_counts_one_patient(cell: int, half: int, place: tuple[int, int]) -> None:
    found = attack_sum(torch.tensor([[cell]]), torch.tensor([0]), torch.tensor([half]))
    assert float(found[0][place]) == float(found.sum()) == 1


def test_nobody_at_all_is_a_sum_of_zeros() -> None:
    empty = torch.zeros(0, 2, dtype=torch.int64)
    owner = torch.zeros(0, dtype=torch.int64)
    for add in (attack_sum, attack_grid_sum):
        assert add(empty, owner, owner).shape == (2, 2, BINS)
        assert not add(empty, owner, owner).any()
