import pytest
import torch

from medgan_core.evaluate.features import features, shuffled_by_patient, standardized
from tests.medgan_core.evaluate.shapes import shapes


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (128, 1)])
def test_features_are_fixed_and_of_one_size(side: int, channels: int) -> None:
    images, _ = shapes(3, 0, side, channels)
    before = torch.get_rng_state()
    found = features(images)
    assert found.shape == (3, 128)
    assert found.dtype == torch.float64
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(features(images), found)
    assert torch.allclose(features(images[:1]), found[:1], atol=1e-6)


def test_standardized_are_in_units_of_the_first() -> None:
    one, two = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1, torch.ones(2, 4)
    first, second = standardized(one, two)
    assert torch.allclose(first.std(dim=0), torch.ones(4))
    assert torch.allclose(second * one.std(dim=0) + one.mean(dim=0), two, atol=1e-5)


def test_patients_stay_together_when_shuffled() -> None:
    owner = torch.tensor([5, 2, 5, 9, 2, 5])
    order = shuffled_by_patient(owner, torch.Generator().manual_seed(0))
    assert order.sort().values.tolist() == list(range(6))
    assert len(owner[order].unique_consecutive()) == 3
