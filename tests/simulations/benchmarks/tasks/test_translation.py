"""The rivals of translation are what their names say, fitted on training patients alone."""

import pytest
import torch
from torch import Tensor

from simulations.benchmarks.tasks.translation import (
    METHODS,
    by_intensity,
    by_position,
    identity,
    linear,
    mean_image,
)


def sources(seed: int = 0) -> Tensor:
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def error(made: Tensor, targets: Tensor) -> float:
    return float((made - targets).square().mean())


def test_each_regression_finds_the_relation_that_it_is_made_for() -> None:
    train, test = sources(0), sources(1)
    slopes = torch.linspace(-0.5, 0.5, 64).reshape(1, 1, 8, 8)
    for relation, fit in (
        (lambda x: 0.2 - 0.7 * x, linear),
        (lambda x: x.square() - 0.5, by_intensity),
        (lambda x: 0.1 + slopes * x, by_position),
    ):
        assert error(fit(train, relation(train))(test), relation(test)) < 2e-3
    curved = error(linear(train, train.square())(test), test.square())
    assert curved > 10 * error(by_intensity(train, train.square())(test), test.square())


def test_guesses_do_not_look_at_what_they_have_no_use_for() -> None:
    train, test = sources(0), sources(1)
    assert torch.equal(identity(train, -train)(test), test)
    made = mean_image(train, train + 0.1)(test)
    assert made.shape == test.shape
    assert torch.allclose(made[3], train.mean(0) + 0.1, atol=1e-6)


def test_an_intensity_that_was_never_seen_is_no_error() -> None:
    made = by_intensity(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8))(sources())
    assert made.isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_described(name: str) -> None:
    assert METHODS[name].__doc__
