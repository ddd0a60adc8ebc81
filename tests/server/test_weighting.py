"""The weighting of directions while a generator is matched."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.privacy.embedding import Embedding
from server.weighting import Weighting, noise_variance, weighting_of
from tests.server.making import federation


def _features(count: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    spread = torch.logspace(0, -3, size)
    labels = torch.arange(count) % 2
    return torch.randn(count, size, generator=random) * spread + labels[:, None], labels


@given(count=st.integers(8, 60), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_it_is_the_inverse_root_of_covariance_and_variance_together(count: int, size: int, seed: int) -> None:
    features, labels = _features(count, size, seed)
    variance = 0.01
    centred = features - torch.stack([features[labels == y].mean(0) for y in (0, 1)])[labels]
    covariance = centred.T @ centred / (count - 2)
    found, vectors = torch.linalg.eigh(covariance.double())
    expected = vectors * (variance / (found.clamp_min(0) + variance)).sqrt() @ vectors.T
    weighted = Weighting.of(features, labels, variance)(torch.eye(size))
    # Directions of less than a hundredth of the variance are left as they are: half a percent at most.
    assert torch.allclose(weighted.double(), expected, atol=0.006)


def test_what_differs_between_classes_alone_is_not_lessened() -> None:
    labels = torch.arange(40) % 2
    features = torch.zeros(40, 3)
    features[:, 0] = torch.randn(40, generator=torch.Generator().manual_seed(0))
    features[:, 1] = labels.float() * 5
    one, other, rest = Weighting.of(features, labels, 0.01)(torch.eye(3)).diag().tolist()
    assert one < 0.2
    assert other == pytest.approx(1.0)
    assert rest == pytest.approx(1.0)


def test_gradients_flow_and_fakes_that_are_all_alike_weigh_nothing() -> None:
    labels = torch.zeros(6, dtype=torch.int64)
    alike = torch.ones(6, 4, requires_grad=True)
    weighting = Weighting.of(alike.detach(), labels, 1e-3)
    seen = weighting(alike)
    assert torch.equal(seen, alike)
    (gradient,) = torch.autograd.grad(seen.sum(), alike)
    assert torch.equal(gradient, torch.ones(6, 4))


def test_noise_counts_by_its_variance_over_a_class_and_never_vanishes() -> None:
    embedding = Embedding(torch.zeros(2, 3), torch.tensor([50.0, 150.0]))
    assert noise_variance(embedding, 0.0, 0.2) == pytest.approx(1e-3)
    assert noise_variance(embedding, 5.0, 0.2) == pytest.approx(1e-3 + 25 * 1.04 / 100)
    assert math.isfinite(noise_variance(Embedding(torch.zeros(1, 3), torch.ones(1)), 1e4, 0.2))


def test_a_generator_is_weighted_by_its_own_fakes_and_left_as_it_is() -> None:
    task = federation().task
    torch.manual_seed(0)
    generator = task.make_generator()
    before = [parameter.clone() for parameter in generator.parameters()]

    def seen(seed: int) -> Weighting:
        random = torch.Generator().manual_seed(seed)
        return weighting_of(task, generator, lambda images: images.flatten(1), 1e-3, random)

    assert torch.equal(seen(1).scales, seen(1).scales)
    assert not torch.equal(seen(1).scales, seen(2).scales)
    assert seen(1).directions.shape[0] == math.prod(task.image_shape)
    assert all(torch.equal(a, b) for a, b in zip(before, generator.parameters(), strict=True))
