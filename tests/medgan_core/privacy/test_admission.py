"""What may not learn from patients is refused by name, before data is touched."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medgan_core.errors import ConfigError
from medgan_core.privacy.admission import private_layers


class OwnWeight(nn.Module):
    """A weight beside a layer, seen by no layer's hook."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layer(images) * self.scale
        return out


class Centred(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.linear(images, self.weight - self.weight.mean(), self.bias)


def _old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Linear(4, 4))


def _old_spectral_norm() -> nn.Module:
    return nn.utils.spectral_norm(nn.Linear(4, 4))


def _buffered() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.register_buffer("seen", torch.zeros(1))
    return layer


def _hooked() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda layer, given, out: out * 2)
    return layer


def _shared() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    return network


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "batch norm": (lambda: nn.BatchNorm1d(4), "1: BatchNorm1d.*normalises over the batch"),
    "batch norm without weights": (lambda: nn.BatchNorm2d(4, affine=False), "1: BatchNorm2d"),
    "batch norm of the batch alone": (
        lambda: nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        "1: BatchNorm1d",
    ),
    "batch norm in evaluation": (lambda: nn.BatchNorm3d(4, affine=False).eval(), "1: BatchNorm3d"),
    "batch norm over processes": (lambda: nn.SyncBatchNorm(4, affine=False), "1: SyncBatchNorm"),
    "lazy batch norm": (lambda: nn.LazyBatchNorm1d(), "1: LazyBatchNorm1d"),
    "statistics": (
        lambda: nn.InstanceNorm1d(4, track_running_stats=True),
        "1: InstanceNorm1d.*keeps statistics",
    ),
    "a weight beside a layer": (OwnWeight, "1: OwnWeight.*weights of its own"),
    "a subclass": (lambda: Centred(4, 4), "1: Centred.*nothing knows their gradients"),
    "recurrent": (lambda: nn.LSTM(4, 4), "1: LSTM.*nothing knows their gradients"),
    "attention": (lambda: nn.MultiheadAttention(4, 2), "1: MultiheadAttention"),
    "bag": (lambda: nn.EmbeddingBag(4, 4), "1: EmbeddingBag.*names twice"),
    "slope": (lambda: nn.PReLU(), "1: PReLU.*nothing knows their gradients"),
    "bilinear": (lambda: nn.Bilinear(4, 4, 4), "1: Bilinear"),
    "spectral norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), r"1: Parametrized"),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "1: Parametrized"),
    "spectral norm by hook": (_old_spectral_norm, "1: Linear.*made anew in each pass"),
    "weight norm by hook": (_old_weight_norm, "1: Linear.*made anew in each pass"),
    "buffers": (_buffered, "1: Linear.*both weights and buffers"),
    "a hook": (_hooked, "1: Linear.*a hook may change"),
    "weights shared by layers": (_shared, r"1\.1: Linear.*that of 1\.0 too"),
    "max norm": (lambda: nn.Embedding(4, 4, max_norm=1.0), "1: Embedding.*max_norm"),
    "by frequency": (lambda: nn.Embedding(4, 4, scale_grad_by_freq=True), "1: Embedding"),
    "sparse": (lambda: nn.Embedding(4, 4, sparse=True), "1: Embedding"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layer_that_breaks_the_guarantee_is_refused_by_name(name: str) -> None:
    make, expected = REFUSED[name]
    network = nn.Sequential(nn.Linear(4, 4), make())
    with pytest.raises(ConfigError, match=f"private network = '{expected}") as caught:
        private_layers(network)
    assert "keep examples apart and learn nothing outside of the optimiser" in str(caught.value)


def test_a_network_that_is_refused_itself_is_named_too() -> None:
    with pytest.raises(ConfigError, match="network: Centred"):
        private_layers(Centred(4, 4))


def test_layers_that_keep_examples_apart_are_accepted(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4),
        nn.Dropout(),
        nn.Flatten(),
        nn.LayerNorm(4),
        nn.Linear(4, 1),
    )
    assert list(private_layers(network)) == ["0", "1", "5", "6"]
    assert not caplog.records


def test_a_frozen_layer_learns_nothing_and_may_be_anything_that_keeps_examples_apart() -> None:
    frozen = OwnWeight().requires_grad_(False)
    assert list(private_layers(nn.Sequential(frozen, nn.Linear(4, 1)))) == ["1"]


def test_a_layer_used_under_two_names_is_one_layer() -> None:
    layer = nn.Linear(4, 4)
    assert list(private_layers(nn.Sequential(layer, nn.ReLU(), layer))) == ["0"]


def test_layers_that_go_through_opacus_are_named_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.RMSNorm(4), nn.RMSNorm(4))
    with caplog.at_level(logging.WARNING, "medgan_core.privacy.admission"):
        private_layers(network)
    (record,) = caplog.records
    assert record.getMessage().endswith("of 1: RMSNorm, 2: RMSNorm")
