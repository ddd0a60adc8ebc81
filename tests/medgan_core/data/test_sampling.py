import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.data.sampling import PatientImages
from medgan_core.data.source import Card, SiteData

CARD = Card("x", ("a", "b"), (1, 1, 1), "OT", "patient", False)


def _data(owner: list[int], patients: int) -> SiteData:
    """Image i has the value i and the label i mod 2."""
    numbers = torch.arange(len(owner))
    keys = tuple(f"p{i}" for i in range(patients))
    images = numbers.float().reshape(-1, 1, 1, 1)
    return SiteData(CARD, keys, torch.tensor(owner, dtype=torch.int64), images, numbers % 2)


_OWNERS = st.integers(1, 8).flatmap(
    lambda patients: st.tuples(st.lists(st.integers(0, patients - 1), max_size=30), st.just(patients))
)


@settings(max_examples=150, deadline=None)
@given(_OWNERS, st.data(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_a_sample_is_all_images_of_exactly_the_patients_whose_coin_is_below_q(
    owners: tuple[list[int], int], data: st.DataObject, rate: float
) -> None:
    owner, patients = owners
    coin = st.sampled_from([0.0, rate / 2, rate, 0.9999, 1 - 2.0**-53])
    coins = data.draw(st.lists(coin, min_size=patients, max_size=patients))
    site = _data(owner, patients)
    images, labels, numbers = PatientImages(site).sample(torch.tensor(coins, dtype=torch.float64), rate)
    sampled = images.flatten().long().tolist()
    assert sorted(sampled) == [i for i, p in enumerate(owner) if coins[p] < rate]
    assert labels.tolist() == [i % 2 for i in sampled]
    chosen = [p for p in range(patients) if coins[p] < rate]
    assert [owner[i] for i in sampled] == [chosen[n] for n in numbers.tolist()]


def test_a_patient_s_images_do_not_depend_on_who_else_is_sampled() -> None:
    index = PatientImages(_data([2, 0, 1, 0, 2, 2], 3))
    alone, _, _ = index.sample(torch.tensor([0.9, 0.9, 0.0]), 0.5)
    for others in ((0.0, 0.9), (0.9, 0.0), (0.0, 0.0)):
        images, _, owner = index.sample(torch.tensor([*others, 0.0]), 0.5)
        assert torch.equal(images[owner == owner.max()], alone)


def test_each_patient_joins_with_probability_q_independently_of_the_others() -> None:
    index = PatientImages(_data([0, 1, 1, 2], 3))
    random = torch.Generator().manual_seed(0)
    present = torch.zeros(1500, 3)
    for row in present:
        images, _, _ = index.sample(torch.rand(3, generator=random, dtype=torch.float64), 0.3)
        row[torch.tensor([0, 1, 1, 2])[images.flatten().long()]] = 1
    assert torch.allclose(present.mean(0), torch.tensor(0.3), atol=5 * (0.21 / 1500) ** 0.5)
    together = torch.corrcoef(present.T) - torch.eye(3)
    assert float(together.abs().max()) < 5 / 1500**0.5


def test_nobody_sampled_gives_empty_tensors_of_the_right_shape() -> None:
    images, labels, owner = PatientImages(_data([0, 0, 1], 2)).sample(torch.tensor([0.5, 0.7]), 0.5)
    assert images.shape == (0, 1, 1, 1)
    assert len(labels) == len(owner) == 0


def test_a_site_without_patients_can_be_sampled() -> None:
    images, _, _ = PatientImages(_data([], 0)).sample(torch.zeros(0), 0.5)
    assert len(images) == 0


def test_a_rate_of_one_takes_everybody() -> None:
    images, _, owner = PatientImages(_data([1, 0, 1], 2)).sample(torch.tensor([0.0, 1 - 2.0**-24]), 1.0)
    assert images.flatten().tolist() == pytest.approx([1, 0, 2])
    assert owner.tolist() == [0, 1, 1]
