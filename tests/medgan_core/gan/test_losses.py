import math
from typing import get_args

import pytest
import torch

from medgan_core.config import TrainingConfig
from medgan_core.gan.losses import LOSSES

SCORES = torch.tensor([-2.0, 0.0, 0.5, 3.0])


def test_every_loss_that_a_study_may_name_exists() -> None:
    assert set(LOSSES) == set(get_args(TrainingConfig.model_fields["loss"].annotation))


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("part", ["real", "fake", "generator"])
def test_a_loss_gives_one_value_for_each_example_by_that_example_alone(name: str, part: str) -> None:
    loss = getattr(LOSSES[name], part)
    values = loss(SCORES)
    assert values.shape == SCORES.shape
    assert torch.equal(values, torch.cat([loss(score[None]) for score in SCORES]))


def test_non_saturating_is_goodfellow_2014_section_3() -> None:
    loss = LOSSES["non_saturating"]
    taken_for_real = [1 / (1 + math.exp(-score)) for score in SCORES.tolist()]
    assert loss.real(SCORES).tolist() == pytest.approx([-math.log(d) for d in taken_for_real])
    assert loss.fake(SCORES).tolist() == pytest.approx([-math.log(1 - d) for d in taken_for_real])
    assert loss.generator(SCORES).tolist() == pytest.approx([-math.log(d) for d in taken_for_real])


def test_hinge_is_lim_and_ye_2017() -> None:
    loss = LOSSES["hinge"]
    assert loss.real(SCORES).tolist() == [3.0, 1.0, 0.5, 0.0]
    assert loss.fake(SCORES).tolist() == [0.0, 1.0, 1.5, 4.0]
    assert loss.generator(SCORES).tolist() == [2.0, 0.0, -0.5, -3.0]


def test_least_squares_is_mao_2017_equation_9() -> None:
    loss = LOSSES["least_squares"]
    assert loss.real(SCORES).tolist() == [4.5, 0.5, 0.125, 2.0]
    assert loss.fake(SCORES).tolist() == [2.0, 0.0, 0.125, 4.5]
    assert loss.generator(SCORES).tolist() == [4.5, 0.5, 0.125, 2.0]


def test_wasserstein_is_arjovsky_2017_algorithm_1() -> None:
    loss = LOSSES["wasserstein"]
    assert loss.real(SCORES).tolist() == [2.0, 0.0, -0.5, -3.0]
    assert loss.fake(SCORES).tolist() == [-2.0, 0.0, 0.5, 3.0]
    assert loss.generator(SCORES).tolist() == [2.0, 0.0, -0.5, -3.0]
    assert [name for name in LOSSES if LOSSES[name].weight_bound < math.inf] == ["wasserstein"]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_boundary_is_where_real_and_fake_cost_the_same(name: str) -> None:
    loss = LOSSES[name]
    at = torch.tensor([loss.boundary])
    assert loss.real(at).item() == pytest.approx(loss.fake(at).item())
    assert (loss.real(at + 0.1) < loss.fake(at + 0.1)).item()
    assert (loss.real(at - 0.1) > loss.fake(at - 0.1)).item()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_stay_finite_at_extreme_scores(name: str) -> None:
    scores = torch.tensor([-1e4, 1e4])
    loss = LOSSES[name]
    assert all(part(scores).isfinite().all() for part in (loss.real, loss.fake, loss.generator))
