"""What a site adds to the secure sum of a joint step: clipped by patient, on the grid, and bounded there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medgan_core.gan.networks import Discriminator
from medgan_core.privacy.book_keeping import BookKeeper
from medgan_core.privacy.engine import clipped_grid_sum
from medgan_core.privacy.grid import STEPS, sensitivity_of_gradients
from medgan_core.tensors import seeded

Data = tuple[Tensor, Tensor, Tensor]


def network() -> nn.Module:
    return seeded(lambda: Discriminator(2, 1, 28, 4), 3)


def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    scores: Tensor = network(images, labels)
    return scores.square()


def drawn(seed: int, counts: list[int]) -> Data:
    random = torch.Generator().manual_seed(seed)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    images = 10 * torch.randn(len(owner), 1, 28, 28, generator=random)
    return images, torch.randint(2, (len(owner),), generator=random), owner


@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 1e6])
def test_it_is_the_clipped_sum_in_clip_norms(clip_norm: float) -> None:
    data = drawn(1, [1, 3, 2])
    total = BookKeeper(network()).clipped_sum(loss, *data, clip_norm)
    found = clipped_grid_sum(network(), loss, *data, clip_norm)
    assert found.dtype == torch.int64
    expected = torch.cat([part.double().flatten() for part in total]) / clip_norm * STEPS
    assert (found - expected).abs().max() <= 0.5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_one_patient_moves_it_by_no_more_than_is_paid_for(seed: int, counts: list[int]) -> None:
    images, labels, owner = drawn(seed, counts)
    whole = clipped_grid_sum(network(), loss, images, labels, owner, 0.5)
    rest = owner > 0
    without = clipped_grid_sum(network(), loss, images[rest], labels[rest], owner[rest] - 1, 0.5)
    assert float((whole - without).double().norm()) <= sensitivity_of_gradients(len(whole))


def test_a_patient_reaches_the_bound_but_for_the_rounding() -> None:
    """So a smaller sensitivity would be wrong."""
    found = clipped_grid_sum(network(), loss, *drawn(2, [2]), 1e-3)
    assert float(found.double().norm()) == pytest.approx(STEPS, rel=1e-3)


def test_nobody_sampled_adds_nothing_and_an_infinite_gradient_neither() -> None:
    assert not clipped_grid_sum(network(), loss, *drawn(1, []), 1.0).any()
    images, labels, owner = drawn(1, [2])
    images[0, 0, 0, 0] = torch.inf
    assert not clipped_grid_sum(network(), loss, images, labels, owner, 1.0).any()
