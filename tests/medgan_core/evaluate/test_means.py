"""The sum that tells of outputs with a reference: its sensitivity is 1, and without noise it is exact."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medgan_core.config import MEAN_SCORES
from medgan_core.evaluate.means import judged_sum, read_scores
from medgan_core.privacy.grid import STEPS

TASKS = (*sorted(MEAN_SCORES), "anomaly")
Owners = st.lists(st.integers(0, 4), min_size=1, max_size=20)


def some(task: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    columns = len(MEAN_SCORES.get(task, ("p",)))
    scores = torch.rand(count, columns, generator=random, dtype=torch.float64)
    return scores, torch.randint(2, (count,), generator=random)


def compact(owner: Tensor) -> Tensor:
    places: Tensor = owner.unique(return_inverse=True)[1]
    return places


@settings(max_examples=60, deadline=None)
@given(
    owner=Owners, task=st.sampled_from(TASKS), seed=st.integers(0, 2**20), wild=st.sampled_from([1, 1e6, -3])
)
def test_one_patient_changes_the_sum_by_at_most_one(
    owner: list[int], task: str, seed: int, wild: float
) -> None:
    owners = torch.tensor(owner)
    scores, labels = some(task, len(owner), seed)
    scores = scores * wild
    scores[0, 0] = math.nan
    whole = judged_sum(task, scores, labels, compact(owners))
    for patient in set(owner):
        rest = owners != patient
        if not rest.any():
            assert whole.norm() <= 1 + 1e-9
            continue
        without = judged_sum(task, scores[rest], labels[rest], compact(owners[rest]))
        assert (whole - without).norm() <= 1 + 1e-9


def test_the_bound_is_reached() -> None:
    for task in TASKS:
        columns = len(MEAN_SCORES.get(task, ("p",)))
        one = judged_sum(task, torch.ones(3, columns), torch.zeros(3).long(), torch.zeros(3).long())
        assert float(one.norm()) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(owner=Owners, task=st.sampled_from(sorted(MEAN_SCORES)), seed=st.integers(0, 2**20))
def test_without_noise_the_means_over_patients_are_read_back(owner: list[int], task: str, seed: int) -> None:
    owners = compact(torch.tensor(owner))
    scores, labels = some(task, len(owner), seed)
    read = read_scores(task, judged_sum(task, scores, labels, owners))
    patients = [scores[owners == patient].mean(0) for patient in range(int(owners.max()) + 1)]
    assert tuple(read) == MEAN_SCORES[task]
    assert list(read.values()) == pytest.approx(torch.stack(patients).mean(0).tolist())


@settings(max_examples=60, deadline=None)
@given(owner=Owners, task=st.sampled_from(TASKS), seed=st.integers(0, 2**20))
def test_on_the_grid_it_is_the_same_sum(owner: list[int], task: str, seed: int) -> None:
    owners = compact(torch.tensor(owner))
    scores, labels = some(task, len(owner), seed)
    plain = judged_sum(task, scores, labels, owners)
    grid = judged_sum(task, scores, labels, owners, grid=True)
    assert grid.dtype == torch.int64
    assert torch.allclose(grid.double() / STEPS, plain, atol=len(owner) / STEPS)


def test_sums_of_sites_add_up() -> None:
    scores, labels = some("segmentation", 6, 0)
    owner = torch.tensor([0, 0, 1, 2, 2, 3])
    parts = [
        judged_sum("segmentation", scores[s], labels[s], owner[s] - owner[s][0])
        for s in (slice(3), slice(3, 6))
    ]
    assert torch.allclose(sum(parts, torch.zeros(4)), judged_sum("segmentation", scores, labels, owner))


@pytest.mark.parametrize("task", sorted(MEAN_SCORES))
def test_noise_reads_as_shares_and_too_few_patients_as_nothing(task: str) -> None:
    size = len(MEAN_SCORES[task]) + 1
    assert all(math.isnan(value) for value in read_scores(task, torch.zeros(size)).values())
    wild = torch.cat([torch.full((size - 1,), 90.0), torch.tensor([10.0])])
    assert set(read_scores(task, wild).values()) == {1.0}
    assert set(read_scores(task, wild * torch.tensor([-1.0] * (size - 1) + [1.0])).values()) == {0.0}


def test_a_single_patient_is_a_whole_one_however_many_images_there_are() -> None:
    for count in range(1, 60):
        owner = torch.zeros(count, dtype=torch.int64)
        total = judged_sum("translation", torch.full((count, 3), 0.25), owner, owner)
        assert read_scores("translation", total)["psnr"] == pytest.approx(0.25)
