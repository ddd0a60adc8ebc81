"""What the passes themselves show: a loss or a network that would make the clipped norm wrong is refused."""

import pytest
import torch
from torch import Tensor, nn

from medgan_core.errors import ConfigError
from medgan_core.privacy.book_keeping import BookKeeper, ExampleLoss

IMAGES = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


def mean(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    out: Tensor = network(images)
    return out.flatten(1).mean(1)


def total(
    network: nn.Module, loss: ExampleLoss = mean, images: Tensor = IMAGES, owner: Tensor | None = None
) -> list[Tensor]:
    owner = torch.arange(len(images)) if owner is None else owner
    return BookKeeper(network).clipped_sum(loss, images, torch.zeros(len(images)), owner, 1.0)


def refused(expected: str) -> "pytest.RaisesExc[ConfigError]":
    return pytest.raises(ConfigError, match=f"private network = '{expected}")


class Layers(nn.Module):
    """Two linear layers, for subclasses that put something wrong between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(()))

    def between(self, hidden: Tensor) -> Tensor:
        return hidden

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.second(self.between(self.first(images)))
        return out


class MinibatchDeviation(Layers):
    """As in progressive GANs: no weights, but every image sees all others."""

    def between(self, hidden: Tensor) -> Tensor:
        return hidden + hidden.std(0).mean()


class Standardised(Layers):
    """Mixing before the first layer."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images - images.mean(0))


class Backwards(Layers):
    """The images of a batch in another order."""

    def between(self, hidden: Tensor) -> Tensor:
        return hidden.flip(0)


class OtherAxis(nn.Module):
    """A sequence whose length happens to be the number of images, with the images second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 3), nn.Linear(12, 2)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images.T[..., None])
        out: Tensor = self.second(hidden.transpose(0, 1).flatten(1))
        return out


class Functional(Layers):
    """A weight that is used without its layer."""

    def between(self, hidden: Tensor) -> Tensor:
        return hidden + nn.functional.linear(hidden, self.first.weight)


class Overwriting(Layers):
    def between(self, hidden: Tensor) -> Tensor:
        self.second(hidden.detach())
        hidden = hidden.tanh()
        self.second(hidden)
        return hidden.mul_(2)


class Remembering(Layers):
    def between(self, hidden: Tensor) -> Tensor:
        self.seen += hidden.detach().mean()
        return hidden


class Replacing(Layers):
    def between(self, hidden: Tensor) -> Tensor:
        self.seen = hidden.detach().mean()
        return hidden


class Writing(Layers):
    def between(self, hidden: Tensor) -> Tensor:
        with torch.no_grad():
            self.first.weight += hidden.mean()
        return hidden


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (MinibatchDeviation, "first: Linear.*what follows mixes the images"),
        (Standardised, "network: Standardised.*what follows mixes the images"),
        (Backwards, "first: Linear.*what follows mixes the images"),
        (OtherAxis, "first: Linear.*their axis is not the first"),
        (Functional, "first: Linear.*used outside of the layer's own call"),
        (Overwriting, "second: Linear.*changed in place"),
        (Remembering, "network: Remembering.*seen changes in the forward pass"),
        (Replacing, "network: Replacing.*seen changes in the forward pass"),
        (Writing, "first: Linear.*first.weight changes in the forward pass"),
    ],
)
def test_a_forward_pass_that_breaks_the_guarantee_is_refused_by_name(
    make: type[nn.Module], expected: str
) -> None:
    with refused(expected):
        total(make())


def test_a_batch_of_one_image_says_nothing_of_mixing_and_the_next_is_looked_at() -> None:
    keeper = BookKeeper(MinibatchDeviation())
    keeper_data = torch.zeros(1), torch.zeros(1, dtype=torch.int64), 1.0
    with pytest.warns(UserWarning, match="degrees of freedom"):
        keeper.clipped_sum(mean, IMAGES[:1], *keeper_data)
    with refused("first: Linear"):
        keeper.clipped_sum(mean, IMAGES, torch.zeros(4), torch.arange(4), 1.0)


def test_an_image_that_is_not_finite_is_no_sign_of_mixing() -> None:
    for bad in (float("nan"), float("inf")):
        images = IMAGES.clone()
        images[2] = bad
        assert all(t.isfinite().all() for t in total(Layers(), images=images))


def test_a_loss_that_holds_gradients_by_weights_is_refused() -> None:
    def penalty(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        leaf = images.detach().requires_grad_()
        scores = torch.tanh(network(leaf)).sum()
        (slope,) = torch.autograd.grad(scores, leaf, create_graph=True)
        return slope.square().sum(1)

    with refused(".*: Linear.*used outside of the layer's own call"):
        total(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)), penalty)


def test_a_loss_that_adds_the_weights_themselves_is_refused() -> None:
    def decayed(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return mean(network, images, labels) + network.get_parameter("0.weight").square().sum()

    with refused("0: Linear.*used outside of the layer's own call"):
        total(nn.Sequential(nn.Linear(4, 1)), decayed)


@pytest.mark.parametrize("rows", [3, 8])
def test_a_call_on_another_number_of_images_is_refused(rows: int) -> None:
    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return mean(network, images.repeat(2, 1)[:rows], labels).sum().expand(len(images))

    with refused(rf"0: Linear.*an input \({rows}, 4\) for 4 images"):
        total(nn.Sequential(nn.Linear(4, 1)), loss)


def test_an_input_without_the_images_is_refused() -> None:
    network = nn.Conv1d(4, 4, 1)
    with refused(r"network: Conv1d.*an input \(4, 4\) for 4 images"):
        total(network)


def test_a_network_that_is_called_without_gradients_in_a_loss_is_a_constant_there() -> None:
    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            target = mean(network, images, labels)
        return mean(network, images, labels) + target

    network = nn.Sequential(nn.Linear(4, 1))
    for found, expected in zip(total(network, loss), total(network), strict=True):
        assert torch.equal(found, expected)


def test_a_constant_buffer_is_no_harm() -> None:
    assert len(total(Layers())) == 4


def test_the_backward_pass_computes_no_gradient_of_a_weight() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 1))
    masks: list[list[bool]] = []

    class Noting(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is torch.ops.aten.convolution_backward.default:
                masks.append(list(args[-1]))
            return func(*args, **(kwargs or {}))

    images = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    keeper = BookKeeper(network)
    data = mean, images, torch.zeros(3), torch.arange(3), 1.0
    keeper.clipped_sum(*data)
    with Noting():
        keeper.clipped_sum(*data)
    assert [mask for mask in masks if mask[0]] == [[True, False, False]]
    assert all(mask == [False, True, False] for mask in masks if not mask[0])
