"""What is DP-MERF's own: the biased mismatch, and a generator that comes closer to what was released."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from medgan_core.config import IMAGE_SIZES
from medgan_core.privacy.embedding import Embedding
from simulations.benchmarks.baselines.dp_merf import Generator, Setup, biased_mismatch


def flat(images: Tensor) -> Tensor:
    return images.flatten(1)


@given(st.integers(1, 6), st.integers(0, 100))
def test_the_mismatch_is_the_squared_distance_of_class_means(each: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    images, mean = torch.randn(2 * each, 3, generator=random), torch.randn(2, 3, generator=random)
    labels = torch.arange(2 * each) % 2
    apart = [(mean[c] - images[labels == c].mean(0)).square().sum() for c in (0, 1)]
    assert float(biased_mismatch(mean, flat, images, labels)) == pytest.approx(float(sum(apart)), rel=1e-4)


def test_the_mismatch_is_the_biased_one_of_the_paper() -> None:
    random = torch.Generator().manual_seed(0)
    images, labels = torch.randn(8, 3, generator=random), torch.zeros(8, dtype=torch.int64)
    mean = torch.randn(1, 3, generator=random)
    unbiased = Embedding(mean, torch.ones(1)).mismatch(images, labels)
    bias = images.var(dim=0).sum() / len(images)  # Var/m, which the unbiased estimator does without
    biased = biased_mismatch(mean, flat, images, labels)
    assert float(biased) == pytest.approx(float(unbiased + mean.square().sum() + bias), rel=1e-4)


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_the_generator_makes_images_of_every_size(size: int) -> None:
    network = Generator(Setup(hidden=8, channels=(4, 2)), classes=3, channels=1, size=size)
    images = network(torch.randn(4, 5), torch.tensor([0, 1, 2, 0]))
    assert images.shape == (4, 1, size, size)
    assert float(images.detach().abs().max()) <= 1


def test_the_generator_is_the_authors_for_their_images() -> None:
    network = Generator(Setup(), classes=10, channels=1, size=28)
    shapes = [tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")]
    assert shapes == [(200, 15), (200,), (784, 200), (784,), (8, 16, 5, 5), (1, 8, 5, 5)]
