"""FedProx at a site: a pull towards the weights that came, after clipping and noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn, optim

from medgan_core.adversarial import hold_near
from medgan_core.messages import Arrays, Phase
from tests.client.test_round_privacy import Told, _incoming, _plan, _round, _study
from tests.client.test_round_taint import Watched, watched

__all__ = ["watched"]


def test_a_step_adds_the_gradient_of_the_squared_distance() -> None:
    layer = nn.Linear(2, 1, bias=False)
    start = layer.weight.detach().clone()
    rule = optim.SGD(layer.parameters(), lr=0.5)
    hold_near(rule, 0.2)
    expected = start.clone()
    for gradient in (1.0, -3.0, 2.0):
        given = torch.full_like(start, gradient)
        layer.weight.grad = given
        expected -= 0.5 * (gradient + 0.2 * (expected - start))
        rule.step()
        assert torch.allclose(layer.weight, expected)
        assert (given == gradient).all()  # whoever gave it may use it again


def test_without_weight_nothing_is_held() -> None:
    rule = optim.SGD([nn.Parameter(torch.ones(2))], lr=0.5)
    hold_near(rule, 0.0)
    assert not rule._optimizer_step_pre_hooks


def moves(after: Arrays, before: Arrays) -> float:
    return float(sum(np.square(array - before[name]).sum() for name, array in after.items()))


def test_both_networks_stay_nearer_to_what_came() -> None:
    request = _incoming(_study(), Phase.TRAIN)
    results = [
        _round(_study(proximal=weight, discriminator_learning_rate=0.1), Told(0.0, 0.5), request=request)
        for weight in (0.0, 0.0, 5.0)
    ]
    plain, again, held = ({n: moves(r.groups[n], request.groups[n]) for n in r.groups} for r in results)
    assert plain == again
    assert all(held[name] < plain[name] for name in ("generator", "discriminator"))


@pytest.mark.parametrize("sent", [True, False])
def test_a_discriminator_that_no_coordinator_sent_is_held_near_to_nothing(sent: bool) -> None:
    request = _incoming(_study(), Phase.TRAIN)
    if not sent:
        groups = {name: arrays for name, arrays in request.groups.items() if name != "discriminator"}
        request = replace(request, groups=groups)
    # One generator step at the end: before it, the discriminator sees the same fakes in both.
    plain, held = (
        _round(_study(share="generator", proximal=weight, generator_every=9), Told(0.0, 0.5), request=request)
        for weight in (0.0, 5.0)
    )
    pairs = [(plain.local["discriminator"][n], a) for n, a in held.local["discriminator"].items()]
    assert all(np.array_equal(one, other) for one, other in pairs) is not sent


def test_no_noise_and_no_coin_is_asked_for_more_and_the_sum_of_patients_is_the_same() -> None:
    sources = [Told(0.0, 0.5), Told(0.0, 0.5)]
    for source, weight in zip(sources, (0.0, 5.0), strict=True):
        _round(_study(proximal=weight), source, plan=_plan())
    assert sources[0].gaussians == sources[1].gaussians
    assert sources[0].tossed == sources[1].tossed


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_pull_opens_no_way_for_private_data(optimizer: str, watched: Watched) -> None:
    watched.run(proximal=0.5, discriminator_optimizer=optimizer)
    assert len(watched.left) == 2
    assert watched.touched == 0
    assert watched.taint.read == []
