"""The clipped sum equals what slow and plain ways give, for every kind of layer, and the bound holds."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medgan_core.errors import ConfigError
from medgan_core.privacy import norms
from medgan_core.privacy.book_keeping import BookKeeper, clip_factors, full_precision, parts_of
from tests.medgan_core.privacy.reference import by_opacus, by_vmap, clipped_sum

OWNER = torch.tensor([0, 1, 1, 2, 0, 0, 3])


def score(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.softplus((network(images).flatten(1) * labels[:, None]).sum(1))


def signed(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """A loss whose gradient is never small: the sum of what comes out, times the label."""
    out: Tensor = network(images)
    return labels * out.flatten(1).sum(1)


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().double().flatten() for t in tensors])


class Tokens(nn.Module):
    """Real numbers as row numbers, for an embedding behind it."""

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1).abs() * 3).long().clamp_max(6)


class Twice(nn.Module):
    """A layer that goes over its own output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layer(torch.tanh(self.layer(images)))
        return out


class Named(nn.Module):
    """A layer that is given its input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layer(input=images)
        return out


Made = tuple[Callable[[], nn.Module], tuple[int, ...]]
EVERYWHERE: dict[str, Made] = {
    "linear": (lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2, bias=False)), (5,)),
    "linear over a sequence": (lambda: nn.Sequential(nn.Linear(5, 9), nn.GELU(), nn.Linear(9, 40)), (3, 5)),
    "linear over a plane": (lambda: nn.Linear(5, 4), (3, 2, 5)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3, 2, 1), nn.Tanh(), nn.Conv1d(4, 3, 2)), (2, 9)),
    "conv2d": (
        lambda: nn.Sequential(nn.Conv2d(1, 6, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(6, 8, 4, 2, 1)),
        (1, 8, 8),
    ),
    "conv2d of few positions": (lambda: nn.Conv2d(8, 16, 3), (8, 3, 4)),
    "conv2d oblong": (lambda: nn.Conv2d(2, 4, (3, 2), (2, 1), (0, 1), bias=False), (2, 7, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 3, 2, 1), (2, 5, 4, 6)),
    "grouped": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 6, 3, groups=6)), (4, 7, 7)),
    "grouped of few positions": (lambda: nn.Conv2d(16, 32, 3, groups=2), (16, 3, 3)),
    "dilated": (lambda: nn.Conv2d(2, 3, 3, 1, 2, dilation=2), (2, 6, 7)),
    "padded to the same size": (lambda: nn.Conv2d(2, 3, (4, 3), padding="same", dilation=(1, 2)), (2, 6, 7)),
    "valid": (lambda: nn.Conv1d(2, 3, 3, padding="valid"), (2, 6)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(3, 2, 4, 2, 1), (3, 5)),
    "transposed 2d": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.ReLU()), (3, 4, 4)),
    "transposed of one position": (lambda: nn.ConvTranspose2d(12, 8, 4), (12, 1, 1)),
    "transposed with all": (
        lambda: nn.ConvTranspose2d(4, 6, 3, (2, 3), 1, output_padding=(1, 0), groups=2, dilation=2),
        (4, 3, 3),
    ),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 3, 3, 2, 1, output_padding=1), (2, 2, 3, 2)),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), (2, 5, 5)),
    "group norm of a vector": (lambda: nn.Sequential(nn.Linear(5, 8), nn.GroupNorm(2, 8)), (5,)),
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 2)), (3, 5)),
    "layer norm over a plane": (lambda: nn.LayerNorm([4, 3]), (2, 4, 3)),
    "instance norm 1d": (lambda: nn.InstanceNorm1d(3, affine=True), (3, 7)),
    "instance norm 2d": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.InstanceNorm2d(3, affine=True), nn.Conv2d(3, 1, 2)),
        (1, 7, 7),
    ),
    "instance norm 3d": (lambda: nn.InstanceNorm3d(2, affine=True), (2, 3, 3, 3)),
    "embedding": (lambda: nn.Sequential(Tokens(), nn.Embedding(7, 3), nn.Tanh(), nn.Linear(3, 2)), (4,)),
    "rms norm through Opacus": (lambda: nn.Sequential(nn.Linear(5, 8), nn.RMSNorm(8, eps=1e-6)), (3, 5)),
    "in float64": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.Tanh(), nn.Conv1d(4, 1, 2)).double(), (2, 9)),
    "in evaluation": (lambda: nn.Sequential(nn.Linear(5, 8), nn.Dropout(), nn.Linear(8, 1)).eval(), (5,)),
}
BY_VMAP_ALONE: dict[str, Made] = {
    "in place": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.LeakyReLU(0.2, inplace=True), nn.Linear(8, 3)),
        (5,),
    ),
    "circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 6, 5)),
    "reflected": (lambda: nn.Conv1d(2, 3, 3, 2, padding=2, padding_mode="reflect"), (2, 6)),
    "replicated to the same size": (
        lambda: nn.Conv2d(2, 3, 4, padding="same", padding_mode="replicate"),
        (2, 6, 5),
    ),
    "padding index": (
        lambda: nn.Sequential(Tokens(), nn.Embedding(7, 3, padding_idx=1), nn.Linear(3, 2)),
        (4,),
    ),
    "linear twice": (lambda: Twice(nn.Linear(5, 5)), (3, 5)),
    "linear twice on a vector": (lambda: Twice(nn.Linear(30, 30)), (30,)),
    "conv twice": (lambda: Twice(nn.Conv2d(2, 2, 3)), (2, 7, 6)),
    "transposed twice": (lambda: Twice(nn.ConvTranspose2d(2, 2, 3, groups=2)), (2, 3, 2)),
    "norm twice": (lambda: Twice(nn.GroupNorm(1, 3)), (3, 4)),
    "rms norm twice": (lambda: Twice(nn.RMSNorm(4, eps=1e-6)), (3, 4)),
    "input by name": (Named, (4,)),
}


def made(case: Made, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A network with random weights, images and the direction that its output is looked at from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = case[0]()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5)
        dtype = next(network.parameters()).dtype
        images = torch.randn(len(OWNER), *case[1], dtype=dtype)
        return network, images, torch.randn(len(OWNER), dtype=dtype)


def agree(found: list[Tensor], expected: list[Tensor], within: float = 1e-5) -> None:
    assert all(a.shape == b.shape for a, b in zip(found, expected, strict=True))
    assert float((flat(found) - flat(expected)).norm()) <= within * float(flat(expected).norm())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("clip", [0.05, 1e9])
@pytest.mark.parametrize("name", [*EVERYWHERE, *BY_VMAP_ALONE])
def test_the_sum_is_that_of_gradients_image_by_image(name: str, clip: float) -> None:
    network, images, labels = made((EVERYWHERE | BY_VMAP_ALONE)[name])
    found = BookKeeper(network).clipped_sum(score, images, labels, OWNER, clip)
    agree(found, clipped_sum(by_vmap(network, score, images, labels), OWNER, clip))
    if name in EVERYWHERE and network.training:
        agree(found, clipped_sum(by_opacus(network, score, images, labels), OWNER, clip))


WAYS: dict[str, dict[str, Any]] = {
    "by Gram matrices": {"_FLOAT64_COST": 0},
    "by gradients that are kept": {"_FLOAT64_COST": 10**9},
    "by gradients that are not kept": {"_FLOAT64_COST": 10**9, "_KEPT": 0},
    "patient by patient": {"_AT_ONCE": {"cpu": 1}, "_KEPT": 0},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "name", ["linear over a sequence", "conv2d", "grouped", "transposed with all", "conv twice"]
)
def test_every_way_to_a_norm_gives_the_same(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, value in WAYS[way].items():
        monkeypatch.setattr(norms, setting, value)
    network, images, labels = made((EVERYWHERE | BY_VMAP_ALONE)[name])
    found = BookKeeper(network).clipped_sum(score, images, labels, OWNER, 0.05)
    agree(found, clipped_sum(by_vmap(network, score, images, labels), OWNER, 0.05), within=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_convolutions_agree_with_gradients_image_by_image(data: st.DataObject) -> None:
    space, groups = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    number = st.integers(1, 2)
    kernel, stride, dilation = ([data.draw(number) for _ in range(space)] for _ in range(3))
    padding = [data.draw(st.integers(0, 1)) for _ in range(space)]
    options: Any = {"groups": groups, "bias": data.draw(st.booleans()), "dilation": dilation}
    transposed = data.draw(st.booleans())
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{space}d")
    size = [data.draw(st.integers(3, 5)) for _ in range(space)]
    case: Made = (
        lambda: kind(2 * groups, 3 * groups, kernel, stride, padding, **options),
        (2 * groups, *size),
    )
    network, images, labels = made(case, data.draw(st.integers(0, 100)))
    owner = torch.tensor(data.draw(st.lists(st.integers(0, 4), min_size=len(OWNER), max_size=len(OWNER))))
    found = BookKeeper(network).clipped_sum(score, images, labels, owner, 0.3)
    agree(found, clipped_sum(by_vmap(network, score, images, labels), owner, 0.3))


@st.composite
def random_networks(draw: st.DrawFn) -> Made:
    """One to four layers of any supported kind, with activations, and the shape that they work on."""
    space, width, size = draw(st.integers(0, 3)), 4, 4
    layers: list[nn.Module] = []
    shape = (width, *[size] * space) if space else (3, width)
    if not space and draw(st.booleans()):
        layers, shape = [Tokens(), nn.Embedding(7, width)], (4,)
    for _ in range(draw(st.integers(1, 3))):
        kinds = ["group", "conv", "transposed", *(["instance"] if size > 1 else [])]
        kind = draw(st.sampled_from(kinds if space else ["linear", "layer", "rms"]))
        options: Any = {"bias": draw(st.booleans())}
        if kind in ("conv", "transposed"):
            stride, options["groups"] = draw(st.integers(1, 2)), draw(st.integers(1, 2))
            made_by = getattr(nn, f"Conv{'Transpose' if kind == 'transposed' else ''}{space}d")
            layers.append(made_by(width, 6, 3, stride, 1, **options))
            width, size = 6, (size - 1) * stride + 1 if kind == "transposed" else (size - 1) // stride + 1
        elif kind == "group":
            layers.append(nn.GroupNorm(2, width))
        elif kind == "instance":
            layers.append(getattr(nn, f"InstanceNorm{space}d")(width, affine=True))
        elif kind == "linear":
            layers.append(nn.Linear(width, 6, **options))
            width = 6
        else:
            layers.append(nn.LayerNorm(width) if kind == "layer" else nn.RMSNorm(width, eps=1e-6))
        layers.append(nn.Tanh())
    network = nn.Sequential(*layers).double()
    return lambda: network, shape


@settings(max_examples=60, deadline=None)
@given(random_networks(), st.integers(0, 100), st.lists(st.integers(0, 4), min_size=7, max_size=7))
def test_random_networks_agree_with_both_references(case: Made, seed: int, owners: list[int]) -> None:
    network, images, labels = made(case, seed)
    owner = torch.tensor(owners)
    found = BookKeeper(network).clipped_sum(score, images, labels, owner, 0.3)
    for reference in (by_vmap, by_opacus):
        agree(found, clipped_sum(reference(network, score, images, labels), owner, 0.3))


def test_a_network_may_be_called_several_times_in_a_loss() -> None:
    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        planes: Tensor = network(images)
        twice = score(network, images, labels) + 2 * score(network, images.flip(-1), labels)
        return twice - planes.mean((1, 2, 3))

    network, images, labels = made(EVERYWHERE["conv2d"])
    found = BookKeeper(network).clipped_sum(loss, images, labels, OWNER, 0.05)
    agree(found, clipped_sum(by_vmap(network, loss, images, labels), OWNER, 0.05))


def test_frozen_weights_are_left_out_of_norm_and_sum() -> None:
    network, images, labels = made(EVERYWHERE["conv2d"])
    for frozen in (network[0].weight, network[2].bias):  # type: ignore[index]
        frozen.requires_grad_(False)
    found = BookKeeper(network).clipped_sum(score, images, labels, OWNER, 0.05)
    agree(found, clipped_sum(by_vmap(network, score, images, labels), OWNER, 0.05))


def test_parts_of_a_network_that_the_loss_does_not_use_get_nothing() -> None:
    network = nn.ModuleDict({"used": nn.Linear(3, 1), "unused": nn.Linear(3, 1)})

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        used: Tensor = network["used"](images)  # type: ignore[index]
        network["unused"](images)  # type: ignore[index]
        return used.squeeze(1)

    found = BookKeeper(network).clipped_sum(loss, torch.ones(2, 3), torch.ones(2), torch.arange(2), 10.0)
    assert [float(t.sum()) for t in found] == pytest.approx([6.0, 2.0, 0.0, 0.0])
    nothing = BookKeeper(network).clipped_sum(
        lambda network, images, labels: images.sum(1), torch.ones(2, 3), torch.ones(2), torch.arange(2), 1.0
    )
    assert float(flat(nothing).abs().max()) == 0


def test_a_batch_without_patients_sums_to_zero() -> None:
    network, images, labels = made(EVERYWHERE["conv2d"])
    found = BookKeeper(network).clipped_sum(score, images[:0], labels[:0], OWNER[:0], 1.0)
    assert [t.shape for t in found] == [p.shape for p in network.parameters()]
    assert float(flat(found).abs().max()) == 0


@pytest.mark.parametrize("views", [2, 3])
def test_views_are_averaged_with_the_images_before_clipping(views: int) -> None:
    network, images, labels = made(EVERYWHERE["conv2d"])
    seen = torch.cat([images + 0.3 * view for view in range(views)])
    found = BookKeeper(network).clipped_sum(score, seen, labels.repeat(views), OWNER.repeat(views), 0.05)
    by_view = [by_vmap(network, score, images + 0.3 * view, labels) for view in range(views)]
    by_image = [torch.stack(gradients).mean(0) for gradients in zip(*by_view, strict=True)]
    agree(found, clipped_sum(by_image, OWNER, 0.05))


@pytest.mark.parametrize("physical", [1, 2, 3, 4, 6, 7, 100])
def test_a_physical_batch_gives_the_sum_of_the_whole_batch(physical: int) -> None:
    network, images, labels = made(EVERYWHERE["conv2d"])
    seen: list[list[float]] = []

    def loss(network: nn.Module, some: Tensor, labels: Tensor) -> Tensor:
        seen.append(some[:, 0, 0, 0].tolist())
        return score(network, some, labels)

    whole = BookKeeper(network).clipped_sum(score, images, labels, OWNER, 0.05)
    found = BookKeeper(network, physical_batch=physical).clipped_sum(loss, images, labels, OWNER, 0.05)
    assert float((flat(found) - flat(whole)).norm()) <= 1e-6 * float(flat(whole).norm())
    known = dict(zip(images[:, 0, 0, 0].tolist(), OWNER.tolist(), strict=True))
    parts = [[known[mark] for mark in part] for part in seen]
    assert sorted(patient for part in parts for patient in part) == sorted(OWNER.tolist())
    assert all(len(part) <= physical or len(set(part)) == 1 for part in parts)
    assert sum(len(set(part)) for part in parts) == len(OWNER.unique())


@given(st.lists(st.integers(-5, 5), max_size=12), st.one_of(st.none(), st.integers(1, 6)))
def test_parts_hold_every_row_once_and_patients_together(owner: list[int], physical: int | None) -> None:
    parts = list(parts_of(torch.tensor(owner, dtype=torch.int64), physical))
    rows = [row for part in parts for row in part.rows.tolist()]
    assert sorted(rows) == list(range(len(owner)))
    in_order = [owner[row] for row in rows]
    expected = [images for part in parts for images in part.counts]
    assert [in_order.count(patient) for patient in dict.fromkeys(in_order)] == expected
    assert in_order == [patient for patient in dict.fromkeys(in_order) for _ in range(owner.count(patient))]
    assert all(part.counts == sorted(part.counts) for part in parts)


_PIXELS = st.sampled_from(
    [
        0.0,
        1e-38,
        1e-20,
        1e-3,
        0.1,
        0.3,
        1.0,
        -1.0,
        7.0,
        1e4,
        -1e10,
        1e19,
        1e30,
        -3e38,
        float("nan"),
        float("inf"),
    ]
)
_IMAGE = st.one_of(st.lists(_PIXELS, min_size=16, max_size=16), _PIXELS.map(lambda value: [value] * 16))
_NETWORKS: list[Callable[[], nn.Module]] = [
    lambda: nn.Sequential(nn.Conv2d(1, 3, 2), nn.LeakyReLU(0.2), nn.Conv2d(3, 1, 2)),
    lambda: nn.Sequential(
        nn.ConvTranspose2d(1, 2, 2, 2), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(128, 1)
    ),
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 40), nn.LayerNorm(40), nn.Linear(40, 1, bias=False)),
    lambda: nn.Conv2d(1, 1, 1, bias=False),
]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(_IMAGE, st.integers(0, 3), st.booleans()), min_size=1, max_size=5),
    st.sampled_from(_NETWORKS),
    st.sampled_from([1e-4, 1.0, 30.0]),
    st.sampled_from([0, 10**9]),
    st.sampled_from([0, 1 << 24]),
    st.booleans(),
)
def test_no_patient_adds_more_than_the_clip_norm(
    drawn: list[tuple[list[float], int, bool]],
    make: Callable[[], nn.Module],
    clip: float,
    cost: int,
    kept: int,
    half: bool,
) -> None:
    network, _, _ = made((make, (1, 4, 4)))
    images = torch.tensor([image for image, _, _ in drawn]).reshape(-1, 1, 4, 4)
    signs = torch.tensor([1.0 if positive else -1.0 for _, _, positive in drawn])
    owner = torch.tensor([patient for _, patient, _ in drawn])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "_FLOAT64_COST", cost)
        patch.setattr(norms, "_KEPT", kept)

        def total(rows: Tensor) -> Tensor:
            data = images[rows], signs[rows], owner[rows]
            return flat(BookKeeper(network, half=half).clipped_sum(signed, *data, clip))

        for patient in owner.unique():
            one = owner == patient
            assert float(total(one).norm()) <= clip * (1 + 1e-6)
            assert float((total(one | ~one) - total(~one)).norm()) <= clip * (1 + 3e-3)


@pytest.mark.parametrize("kept", [0, 1 << 24])
@pytest.mark.parametrize("size", [1, 8, 64, 128])
def test_an_even_image_of_many_positions_is_clipped_to_the_norm_in_spite_of_rounding(
    size: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norms, "_KEPT", kept)
    for value in (0.1, 0.3, 0.7):
        network, _, _ = made((lambda: nn.Conv2d(1, 8, 1), ()), seed=int(10 * value))
        images, labels = torch.full((3, 1, size, size), value), torch.full((3,), 1 / 3)
        found = BookKeeper(network).clipped_sum(signed, images, labels, torch.zeros(3), 1e-3)
        assert 1e-3 * (1 - 1e-4) <= float(flat(found).norm()) <= 1e-3 * (1 + 1e-6)


@pytest.mark.parametrize("make", _NETWORKS)
@pytest.mark.parametrize("cost", [0, 10**9])
@pytest.mark.parametrize("kept", [0, 1 << 24])
@pytest.mark.parametrize("loudness", [1e-15, 1e-20, 1e-25, 1e-30])
def test_a_gradient_whose_squares_float32_does_not_hold_is_clipped_as_any_other(
    make: Callable[[], nn.Module], cost: int, kept: int, loudness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norms, "_FLOAT64_COST", cost)
    monkeypatch.setattr(norms, "_KEPT", kept)
    network, images, labels = made((make, (1, 4, 4)))
    clip = 1e-3 * loudness
    quiet = lambda *asked: signed(*asked) * loudness  # noqa: E731
    found = BookKeeper(network).clipped_sum(quiet, images[:1], labels[:1], torch.zeros(1), clip)
    assert clip * (1 - 1e-3) <= float(flat(found).double().norm()) <= clip * (1 + 1e-6)


@pytest.mark.parametrize("cost", [0, 10**9])
def test_what_large_terms_leave_when_they_cancel_is_no_more_than_the_clip_norm(
    cost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norms, "_FLOAT64_COST", cost)
    monkeypatch.setattr(norms, "_KEPT", 0)
    random = torch.Generator().manual_seed(0)
    network = nn.Linear(50, 1)
    for scale in (1e2, 1e5, 1e9, 1e15):
        image = torch.rand(1, 50, generator=random) * scale
        images = torch.cat([image, image / 3, image / 3 * 2])
        signs = torch.tensor([1.0, -1.0, -1.0])
        found = BookKeeper(network).clipped_sum(signed, images, signs, torch.zeros(3), 1.0)
        assert float(flat(found).norm()) <= 1 + 1e-6


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kept", [0, 1 << 24])
def test_a_gradient_that_is_not_finite_adds_nothing_and_spoils_nobody_s(
    bad: float, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norms, "_KEPT", kept)
    for name in ("conv2d", "transposed 2d", "group norm", "linear", "rms norm through Opacus"):
        network, images, labels = made(EVERYWHERE[name])
        images[1] = bad
        expected = clipped_sum(
            by_vmap(network, score, images[OWNER != 1], labels[OWNER != 1]), OWNER[OWNER != 1], 0.05
        )
        agree(BookKeeper(network).clipped_sum(score, images, labels, OWNER, 0.05), expected)


def test_the_factor_is_by_the_norm_and_a_margin_for_rounding() -> None:
    nan, infinite = float("nan"), float("inf")
    rows = [[4.0, 0], [0.25, 0], [0, 0], [1, 1e6], [1, 1e12], [nan, 0], [infinite, 0], [1, nan]]
    factors = clip_factors(torch.tensor(rows, dtype=torch.float64), 1.0, torch.float32)
    margin = 1 / (1 + 1e3 * 2.0**-24)
    assert factors.tolist() == pytest.approx([0.5, 1, 1, margin, 2.0**14 / 1e6, 0, 0, 0], rel=1e-12)
    huge = torch.tensor([[1e80, 0.0]], dtype=torch.float64)
    assert clip_factors(huge, 1.0, torch.float32).item() == 0
    assert clip_factors(huge, 1.0, torch.float64).item() == pytest.approx(1e-40)


def test_in_half_precision_norm_and_sum_are_of_the_same_gradient() -> None:
    network, images, labels = made(EVERYWHERE["conv2d"])
    seen = []

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        seen.append(network(images).dtype)
        return score(network, images, labels)

    for patient in range(4):
        rows = torch.eq(OWNER, patient)
        data = images[rows], labels[rows], OWNER[rows]
        for kept in (0, 1 << 24):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(norms, "_KEPT", kept)
                found = flat(BookKeeper(network, half=True).clipped_sum(loss, *data, 0.01))
            assert 0.01 * (1 - 1e-5) <= float(found.norm()) <= 0.01 * (1 + 1e-6)
            exact = flat(BookKeeper(network).clipped_sum(score, *data, 0.01))
            assert 0 < float((found - exact).norm()) < 0.05 * 0.01
    assert set(seen) == {torch.bfloat16}


def test_sums_do_not_follow_an_autocast_around_them() -> None:
    network, images, labels = made(EVERYWHERE["conv2d"])
    expected = BookKeeper(network).clipped_sum(score, images, labels, OWNER, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        found = BookKeeper(network).clipped_sum(score, images, labels, OWNER, 0.05)
    assert torch.equal(flat(found), flat(expected))


def asked() -> list[str]:
    """The precision of products that the process asks for now."""
    backends: Any = torch.backends
    places = backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv
    return [place.fp32_precision for place in places]


def test_sums_in_two_threads_do_not_turn_each_other_s_precision_back() -> None:
    outside, inside, entered, leave = asked(), [], threading.Event(), threading.Event()

    def first() -> None:
        with full_precision(torch.device("cpu")):
            entered.set()
            leave.wait(10)

    def second() -> None:
        with full_precision(torch.device("cpu")):
            inside.append(asked())
            thread.join(10)
            inside.append(asked())

    thread, other = threading.Thread(target=first), threading.Thread(target=second)
    thread.start()
    assert entered.wait(10)
    other.start()
    other.join(0.2)  # where it does not wait, it is inside by now
    leave.set()
    other.join(10)
    assert inside == [["ieee"] * 4] * 2
    assert asked() == outside


def test_sums_are_in_full_precision_whatever_the_process_asks_for() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        outside = asked()
        with full_precision(torch.device("cpu")):
            assert asked() == ["ieee"] * 4
        assert asked() == outside
        assert "bf16" in outside
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_loss_of_another_shape_is_refused() -> None:
    network, images, labels = made(EVERYWHERE["conv2d"])
    with pytest.raises(ConfigError, match=r"loss = \(\): expected one value for each image, \(7,\)"):
        BookKeeper(network).clipped_sum(lambda *given: score(*given).mean(), images, labels, OWNER, 1.0)
