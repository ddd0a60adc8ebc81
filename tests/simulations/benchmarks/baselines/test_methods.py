"""Every method from sites to images: what it charges, what it draws, and that its noise is there."""

from functools import cache
from math import inf
from typing import Any

import pytest
import torch
from torch import Tensor

from client.site import RandomFor
from medgan_core.errors import BudgetError
from medgan_core.seeds import Seeds
from simulations.benchmarks.baselines import METHODS
from simulations.benchmarks.baselines.method import Sampler
from tests.simulations.benchmarks.making import SMALL, silent, small_sites, small_study
from tests.simulations.making import Seeded

PRIVATE = [name for name, method in METHODS.items() if method.private]


def trained(name: str, random: RandomFor, **changes: Any) -> Sampler:
    return SMALL[name](small_study(**changes), small_sites(), Seeds(0), random)


@cache
def once(name: str) -> Sampler:
    return trained(name, Seeded(1))


def images_of(sampler: Sampler) -> Tensor:
    return sampler.draw(10, Seeds(5))[0]


@pytest.mark.parametrize("name", PRIVATE)
def test_what_is_charged_is_near_what_is_asked_and_never_more(name: str) -> None:
    sampler = once(name)
    assert 7 < sampler.epsilon <= 8
    images, labels = sampler.draw(11, Seeds(5))
    assert images.shape == (11, 1, 28, 28)
    assert images.dtype == torch.float32
    assert -1 <= float(images.min()) < float(images.max()) <= 1
    assert labels.bincount().tolist() == [6, 5]


@pytest.mark.parametrize("name", PRIVATE)
def test_the_same_secrets_give_the_same_images_and_others_do_not(name: str) -> None:
    images = images_of(once(name))
    assert torch.equal(images, images_of(trained(name, Seeded(1))))
    assert not torch.allclose(images, images_of(trained(name, Seeded(2))))


@pytest.mark.parametrize("name", PRIVATE)
def test_the_noise_reaches_the_images(name: str) -> None:
    assert not torch.allclose(images_of(once(name)), images_of(trained(name, silent)))


@pytest.mark.parametrize("name", ["medgan-one-shot", "dp-merf"])
def test_sites_refuse_more_than_what_is_asked(name: str) -> None:
    with pytest.raises(BudgetError, match=r"cap 7 "):
        trained(name, Seeded(1), sites__epsilon_cap=7.0)


@pytest.mark.parametrize("name", [name for name in PRIVATE if not METHODS[name].summed])
def test_without_privacy_nothing_is_promised(name: str) -> None:
    sampler = trained(name, Seeded(1), privacy__mode="off", sites__epsilon_cap=inf)
    assert sampler.epsilon == inf
    assert images_of(sampler).isfinite().all()


def test_real_images_are_all_of_them_in_one_place() -> None:
    sampler = once("real")
    images, labels = sampler.draw(1, Seeds(5))
    assert sampler.epsilon == inf
    assert torch.equal(images, torch.cat([site.training.images for site in small_sites()]))
    assert len(labels) == len(images)


def test_what_is_settled_by_a_method_is_bound_to_its_results() -> None:
    assert METHODS["medgan"].setup == {}
    for name in ("dp-gan", "fedavg-local"):
        assert METHODS[name].setup["training.anchor_weight"] == 0
        assert METHODS[name].setup["batch"] > 0
    assert METHODS["dp-merf"].setup["frequencies"] == 5000
