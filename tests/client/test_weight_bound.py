"""A Wasserstein critic at a site: weights that are cut after every step, and no new way for private data."""

import numpy as np
import pytest
import torch
from torch import nn, optim

from medgan_core.adversarial import bound_weights
from medgan_core.codec import flatten, unflatten
from medgan_core.config import Study, parse_study
from medgan_core.errors import ConfigError
from medgan_core.gan.losses import LOSSES
from medgan_core.messages import Phase
from tests.client.test_round_privacy import Told, _incoming, _plan, _round, _study
from tests.client.test_round_taint import Watched, watched

__all__ = ["watched"]
BOUND = LOSSES["wasserstein"].weight_bound


def test_a_step_ends_within_the_bound_and_without_one_is_left_alone() -> None:
    weights = [nn.Parameter(torch.tensor([0.5, -0.01, -2.0])) for _ in range(2)]
    for parameter, bound in zip(weights, (0.1, float("inf")), strict=True):
        rule = optim.SGD([parameter], lr=1.0)
        bound_weights(rule, bound)
        parameter.grad = torch.tensor([0.0, 0.02, 0.0])
        rule.step()
    assert weights[0].tolist() == pytest.approx([0.1, -0.03, -0.1])
    assert weights[1].tolist() == pytest.approx([0.5, -0.03, -2.0])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_round_leaves_a_bounded_critic_and_a_free_generator(optimizer: str) -> None:
    request = _incoming(_study(), Phase.TRAIN)
    result = _round(
        _study(loss="wasserstein", discriminator_optimizer=optimizer), Told(3.0, 0.5), request=request
    )
    critic, generator = result.groups["discriminator"], result.groups["generator"]
    assert max(float(np.abs(array).max()) for array in critic.values()) == pytest.approx(BOUND)
    assert max(float(np.abs(array).max()) for array in generator.values()) > BOUND


def test_no_noise_and_no_coin_is_asked_for_more() -> None:
    sources = [Told(0.0, 0.5), Told(0.0, 0.5)]
    for source, loss in zip(sources, ("hinge", "wasserstein"), strict=True):
        _round(_study(loss=loss), source, plan=_plan())
    assert sources[0].gaussians == sources[1].gaussians
    assert sources[0].tossed == sources[1].tossed


def test_the_bound_opens_no_way_for_private_data(watched: Watched) -> None:
    watched.run(loss="wasserstein")
    assert len(watched.left) == 2
    assert watched.touched == 0
    assert watched.taint.read == []


def test_a_ladder_by_rejected_fakes_is_refused_by_name() -> None:
    def asked(loss: str) -> Study:
        changed = {"training.loss": loss, "training.adaptive": True}
        return parse_study(unflatten(flatten(_study().to_dict()) | changed))

    assert asked("hinge").training.adaptive
    with pytest.raises(ConfigError, match=r"training\.adaptive"):
        asked("wasserstein")
