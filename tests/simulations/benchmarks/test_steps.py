"""All private steps of the benchmark do the same, so that their times may be compared."""

import pytest
import torch
from torch import Tensor

from simulations.benchmarks.steps import METHODS, Float32Noise, Setting, Silence


def gradient(name: str) -> Tensor:
    setting = Setting(3, Silence(), size=16, width=2)
    for images in (setting.reals, setting.fakes):
        images *= 100  # so that clipping bites
    METHODS[name][0](setting)()
    return torch.cat([p.grad.flatten() for p in setting.parameters if p.grad is not None])


def test_every_method_makes_a_step() -> None:
    for make, _ in METHODS.values():
        setting = Setting(3, Float32Noise(), size=16, width=2)
        before = [p.detach().clone() for p in setting.parameters]
        make(setting)()
        assert not any(torch.equal(old, new) for old, new in zip(before, setting.parameters, strict=True))


@pytest.mark.parametrize(
    ("name", "like"), [("engine", "opacus-reals"), ("engine-contract-noise", "engine"), ("vmap", "opacus")]
)
def test_ways_to_the_same_clipped_sum_agree(name: str, like: str) -> None:
    assert torch.allclose(gradient(name), gradient(like), rtol=1e-3, atol=1e-5)


def test_reals_and_fakes_are_clipped_apart() -> None:
    assert not torch.allclose(gradient("opacus-reals"), gradient("opacus"), rtol=1e-2)
