from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, optim

from medgan_core.errors import ConfigError
from medgan_core.gan.networks import Discriminator
from medgan_core.privacy.book_keeping import BookKeeper
from medgan_core.privacy.engine import PrivateOptimizer
from medgan_core.privacy.noise import Keystream, SecretRandom, SeededRandom
from tests.medgan_core.privacy.reference import by_hand, clipped_sum

PIXELS = 5
Patient = list[list[float]]


class Spy:
    """Gives 1, 2, 3, … over all Gaussians of the first call, then goes on counting; remembers the calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def normal(self, count: int) -> Tensor:
        start = sum(self.calls) + 1
        self.calls.append(count)
        return torch.arange(start, start + count, dtype=torch.float64)

    def uniform(self, count: int) -> Tensor:
        raise AssertionError("the engine draws no coins")


class Silent(Spy):
    """No noise at all."""

    def normal(self, count: int) -> Tensor:
        return super().normal(count) * 0


def _line() -> nn.Module:
    """A score whose gradient by the weights is the image itself, in float64."""
    network = nn.Linear(PIXELS, 1, bias=False).double()
    nn.init.zeros_(network.weight)
    return network


def _score(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    scores: Tensor = network(images).squeeze(1)
    return scores


def _no_fakes(network: nn.Module) -> Tensor:
    return torch.stack([p.sum() for p in network.parameters()]).sum() * 0


def _optimizer(
    network: nn.Module,
    random: SecretRandom,
    *,
    clip: float | None = 1.0,
    sigma: float = 0.0,
    nominal: float = 1.0,
) -> PrivateOptimizer:
    """With a rule that moves the weights by minus the gradient."""
    rule = optim.SGD(network.parameters(), 1.0)
    return PrivateOptimizer(
        network, rule, clip_norm=clip, noise_multiplier=sigma, nominal_batch=nominal, random=random
    )


def _moved(images: Tensor, owner: Tensor, **asked: float | None) -> Tensor:
    """How far one step without noise moves the line against the gradient, [PIXELS]."""
    network = _line()
    optimizer = _optimizer(network, Silent(), **asked)  # type: ignore[arg-type]
    optimizer.step(_score, images, torch.zeros(len(images)), owner, _no_fakes)
    return -next(network.parameters()).detach().flatten()


def _flat(tensors: Iterator[Tensor] | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([t.detach().double().flatten() for t in tensors])


def _discriminator() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Discriminator(2, 1, 28, 4)


def _softplus(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.softplus(-network(images, labels))


def _patients(counts: list[int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and owners, in an order that mixes the patients."""
    random = torch.Generator().manual_seed(seed)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    owner = owner[torch.randperm(len(owner), generator=random)]
    images = torch.randn(len(owner), 1, 28, 28, generator=random) * (1 + owner[:, None, None, None])
    return images, torch.randint(2, (len(owner),), generator=random), owner


def _by_hand(network: nn.Module, data: tuple[Tensor, Tensor, Tensor], clip: float) -> Tensor:
    """Mean by patient, then clip, then sum: one plain backward pass for each image."""
    images, labels, owner = data
    parameters = list(network.parameters())
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for patient in owner.unique():
        gradients = []
        for index in (owner == patient).nonzero().flatten().tolist():
            loss = _softplus(network, images[index : index + 1], labels[index : index + 1]).sum()
            gradients.append(_flat(torch.autograd.grad(loss, parameters)))
        mean = torch.stack(gradients).mean(0)
        total += mean * min(1.0, clip / float(mean.norm()))
    return total


@pytest.mark.parametrize("counts", [[1], [4], [1, 1, 1], [3, 1, 4, 2]])
@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e6])
def test_the_sum_is_of_clipped_patient_means_as_plain_loops_give_it(counts: list[int], clip: float) -> None:
    network, data = _discriminator(), _patients(counts)
    expected = _by_hand(network, data, clip)
    before = _flat(network.parameters())
    optimizer = _optimizer(network, Silent(), clip=clip, nominal=1.0)
    optimizer.step(_softplus, *data, _no_fakes)
    moved = before - _flat(network.parameters())
    assert float((moved - expected).norm()) <= 1e-5 * max(1e-2, float(expected.norm()))


def test_clipping_bites_on_some_patients_and_spares_others() -> None:
    images = torch.tensor([[3.0, 4, 0, 0, 0], [0, 0, 0.5, 0, 0]], dtype=torch.float64)
    moved = _moved(images, torch.tensor([0, 1]), clip=1.0)
    assert torch.allclose(moved, torch.tensor([0.6, 0.8, 0.5, 0, 0], dtype=torch.float64))


def test_the_norm_is_taken_over_all_tensors_together() -> None:
    network = nn.Linear(1, 1).double()
    (weight, bias) = BookKeeper(network).clipped_sum(
        lambda network, images, labels: 4 * network(images).squeeze(1),
        torch.tensor([[0.75]], dtype=torch.float64),
        torch.zeros(1),
        torch.tensor([0]),
        1.0,
    )
    assert weight.tolist() == [[pytest.approx(0.6)]]
    assert bias.tolist() == [pytest.approx(0.8)]


def test_a_patient_weighs_the_same_with_one_image_and_with_many() -> None:
    image = torch.arange(PIXELS, dtype=torch.float64)[None]
    for clip in (0.1, 100.0):
        once = _moved(image, torch.tensor([0]), clip=clip)
        often = _moved(image.expand(7, -1), torch.zeros(7, dtype=torch.int64), clip=clip)
        assert torch.allclose(once, often)


def test_images_are_averaged_before_clipping_and_not_after() -> None:
    images = torch.tensor([[100.0, 0, 0, 0, 0], [0, 1, 0, 0, 0]], dtype=torch.float64)
    moved = _moved(images, torch.tensor([0, 0]), clip=1.0)
    assert torch.allclose(moved, nn.functional.normalize(images.mean(0), dim=0))


_VALUES = st.sampled_from(
    [0.0, 1e-30, 1e-3, 0.3, -1.0, 7.0, -1e10, 1e30, -3e38, float("nan"), float("inf"), float("-inf")]
)
_PATIENT = st.lists(st.lists(_VALUES, min_size=PIXELS, max_size=PIXELS), min_size=1, max_size=4)


def _stack(patients: Sequence[Patient], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    rows = [image for patient in patients for image in patient]
    owner = [index for index, patient in enumerate(patients) for _ in patient]
    return torch.tensor(rows, dtype=dtype).reshape(-1, PIXELS), torch.tensor(owner, dtype=torch.int64)


@settings(max_examples=150, deadline=None)
@given(st.lists(_PATIENT, min_size=1, max_size=6), st.data(), st.sampled_from([1e-4, 1.0, 30.0]))
def test_one_patient_changes_the_sum_by_at_most_c(
    patients: list[Patient], data: st.DataObject, clip: float
) -> None:
    gone = data.draw(st.integers(0, len(patients) - 1))
    sums = []
    for present in (patients, patients[:gone] + patients[gone + 1 :]):
        images, owner = _stack(present, torch.float32)
        keeper = BookKeeper(nn.Linear(PIXELS, 1, bias=False))
        sums += keeper.clipped_sum(_score, images, torch.zeros(len(images)), owner, clip)
    assert torch.isfinite(sums[0]).all()
    assert float((sums[0] - sums[1]).norm()) <= clip * (1 + 1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(_PATIENT, max_size=5), _PATIENT)
def test_one_patient_moves_the_weights_by_at_most_c_over_the_nominal_batch(
    others: list[Patient], patient: Patient
) -> None:
    with_patient = _moved(*_stack([patient, *others], torch.float64), clip=0.5, nominal=8.0)
    without = _moved(*_stack(others, torch.float64), clip=0.5, nominal=8.0)
    assert float((with_patient - without).norm()) <= 0.5 / 8 * (1 + 1e-6)


def test_the_rounding_of_a_large_sum_adds_little_to_the_sensitivity() -> None:
    images = torch.randn(2000, 400, generator=torch.Generator().manual_seed(1)) + 1
    owner = torch.arange(2000)
    keeper = BookKeeper(nn.Linear(400, 1, bias=False))
    (whole,) = keeper.clipped_sum(_score, images, images, owner, 1.0)
    for gone in (0, 999, 1999):
        kept = owner != gone
        (rest,) = keeper.clipped_sum(_score, images[kept], images[kept], owner[kept], 1.0)
        assert float((whole - rest).norm()) <= 1 + 1e-7 * 2000


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_patient_whose_gradient_is_not_finite_contributes_zero(bad: float) -> None:
    images = torch.eye(PIXELS, dtype=torch.float64)[[0, 1, 2, 3]]
    owner = torch.tensor([0, 1, 1, 2])
    images[1, 4] = bad
    expected = torch.tensor([1.0, 0, 0, 1, 0], dtype=torch.float64)
    assert torch.equal(_moved(images, owner), expected)


def test_a_sample_of_patients_that_are_all_not_finite_is_a_step_of_zero() -> None:
    images = torch.full((2, PIXELS), float("nan"), dtype=torch.float64)
    assert torch.equal(_moved(images, torch.tensor([0, 1])), torch.zeros(PIXELS, dtype=torch.float64))


def test_an_infinite_pixel_leaves_the_other_patients_of_a_convolution_as_they_were() -> None:
    images, labels, owner = _patients([2, 1, 1])
    images[owner == 1] = float("inf")
    kept = owner != 1
    steps = []
    for data in ((images, labels, owner), (images[kept], labels[kept], owner[kept])):
        network = _discriminator()
        _optimizer(network, Silent()).step(_softplus, *data, _no_fakes)
        steps.append(_flat(network.parameters()))
    assert torch.allclose(steps[0], steps[1], atol=1e-7)


def test_noise_is_sigma_c_before_the_division_by_the_nominal_batch() -> None:
    network, spy = _line(), Spy()
    image = torch.tensor([[0.0, 0, 0, 0, 0.25]], dtype=torch.float64)
    optimizer = _optimizer(network, spy, clip=0.5, sigma=3.0, nominal=8.0)
    optimizer.step(_score, image, torch.zeros(1), torch.tensor([0]), _no_fakes)
    moved = -next(network.parameters()).detach().flatten()
    noise = 3.0 * 0.5 * torch.arange(1, PIXELS + 1, dtype=torch.float64)
    assert torch.allclose(moved, (noise + image[0]) / 8, rtol=1e-12)


def test_the_noise_of_a_real_source_has_the_deviation_that_was_promised() -> None:
    network = nn.Linear(20_000, 1, bias=False)
    before = network.weight.detach().clone()
    optimizer = _optimizer(network, Keystream(), clip=0.5, sigma=3.0, nominal=8.0)
    nothing = torch.zeros(0, 20_000)
    optimizer.step(_score, nothing, nothing[:, 0], torch.zeros(0, dtype=torch.int64), _no_fakes)
    moved = (before - network.weight.detach()).double()
    assert float(moved.std()) == pytest.approx(3.0 * 0.5 / 8, rel=5 * 0.005)
    assert abs(float(moved.mean())) < 5 * 3.0 * 0.5 / 8 / 20_000**0.5


def test_an_empty_batch_is_a_step_with_noise() -> None:
    network, spy = _line(), Spy()
    optimizer = _optimizer(network, spy, sigma=2.0, nominal=4.0)
    nothing = torch.zeros(0, PIXELS, dtype=torch.float64)
    optimizer.step(_score, nothing, nothing[:, 0], torch.zeros(0, dtype=torch.int64), _no_fakes)
    moved = -next(network.parameters()).detach().flatten()
    assert torch.allclose(moved, 2.0 * torch.arange(1, PIXELS + 1, dtype=torch.float64) / 4)


def test_every_step_and_every_weight_has_its_own_noise() -> None:
    network, spy = nn.Linear(3, 2).double(), Spy()
    optimizer = _optimizer(network, spy, sigma=1.0)
    nothing = torch.zeros(0, 3, dtype=torch.float64)
    before = _flat(network.parameters())
    for step in range(3):
        optimizer.step(_score, nothing, nothing, torch.zeros(0, dtype=torch.int64), _no_fakes)
        after = _flat(network.parameters())
        expected = torch.arange(8 * step + 1, 8 * step + 9, dtype=torch.float64)
        assert torch.allclose(before - after, expected)
        before = after
    assert spy.calls == [8, 8, 8]


def test_noise_is_drawn_once_a_step_whatever_the_number_of_patients() -> None:
    for patients in (0, 1, 5):
        spy = Spy()
        images = torch.ones(patients, PIXELS, dtype=torch.float64)
        optimizer = _optimizer(_line(), spy, sigma=1.0)
        optimizer.step(_score, images, torch.zeros(patients), torch.arange(patients), _no_fakes)
        assert spy.calls == [PIXELS]


def test_the_divisor_is_the_nominal_batch_and_never_the_realised_one() -> None:
    image = torch.full((1, PIXELS), 0.1, dtype=torch.float64)
    one = _moved(image, torch.tensor([0]), nominal=7.0)
    three = _moved(image.expand(3, -1), torch.arange(3), nominal=7.0)
    assert torch.allclose(one, image[0] / 7)
    assert torch.allclose(three, 3 * one)


@pytest.mark.parametrize("fakes", [1, 2, 16])
@pytest.mark.parametrize("reals", [0, 1, 5])
def test_fakes_add_their_own_mean_gradient_once_whatever_the_sizes(reals: int, fakes: int) -> None:
    drawn = torch.randn(fakes, PIXELS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    images = torch.full((reals, PIXELS), 0.1, dtype=torch.float64)
    calls = []

    def free(network: nn.Module) -> Tensor:
        calls.append(network)
        mean: Tensor = 50 * network(drawn).mean()
        return mean

    network = _line()
    optimizer = _optimizer(network, Silent(), nominal=4.0)
    optimizer.step(_score, images, torch.zeros(reals), torch.arange(reals), free)
    moved = -next(network.parameters()).detach().flatten()
    of_fakes = 50 * drawn.mean(0)
    of_fakes = of_fakes * min(1.0, float(optimizer.clip_norm or 0) / float(of_fakes.norm()))
    assert torch.allclose(moved, reals * torch.full((PIXELS,), 0.1).double() / 4 + of_fakes)
    assert calls == [network]


def test_nothing_of_the_raw_gradient_of_patients_reaches_the_weights() -> None:
    images = torch.full((3, PIXELS), 1e30, dtype=torch.float64)
    network = _line()
    optimizer = _optimizer(network, Silent(), clip=1e-9, nominal=4.0)
    for _ in range(3):
        before = _flat(network.parameters())
        optimizer.step(_score, images, torch.zeros(3), torch.tensor([0, 0, 1]), _no_fakes)
        moved = float((_flat(network.parameters()) - before).norm())
        assert 0 < moved <= 2 * 1e-9 / 4 * (1 + 1e-9)


def test_a_gradient_that_lay_in_the_weights_before_does_not_count() -> None:
    network = _line()
    next(network.parameters()).grad = torch.full((1, PIXELS), 1e6, dtype=torch.float64)
    optimizer = _optimizer(network, Silent())
    nothing = torch.zeros(0, PIXELS, dtype=torch.float64)
    optimizer.step(_score, nothing, nothing[:, 0], torch.zeros(0, dtype=torch.int64), _no_fakes)
    assert float(_flat(network.parameters()).abs().max()) == 0


def _hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._backward_hooks) for m in network.modules())


def test_nothing_is_left_on_the_network_outside_of_the_private_pass() -> None:
    network = _discriminator()
    optimizer = _optimizer(network, Silent())
    images, labels, owner = _patients([1, 2])
    seen: list[int] = []

    def free(inner: nn.Module) -> Tensor:
        seen.append(_hooks(inner))
        return _softplus(inner, images[:1], labels[:1]).mean()

    optimizer.step(_softplus, images, labels, owner, free)
    assert seen == [0]
    fakes = images.clone().requires_grad_()
    _softplus(network, fakes, labels).mean().backward()  # as a generator's step would
    assert fakes.grad is not None
    assert _hooks(network) == 0
    assert images.grad is None
    assert not images.requires_grad


def test_nothing_is_left_on_the_network_where_the_loss_fails() -> None:
    network = _discriminator()
    optimizer = _optimizer(network, Silent())

    def broken(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        optimizer.step(broken, *_patients([1]), _no_fakes)
    assert _hooks(network) == 0


def test_steps_repeat_with_the_same_draws_and_differ_with_others() -> None:
    ends = []
    for seed in (1, 1, 2):
        network = _discriminator()
        optimizer = _optimizer(network, SeededRandom(seed), sigma=1.0, nominal=4.0)
        optimizer.step(_softplus, *_patients([2, 1]), _no_fakes)
        ends.append(_flat(network.parameters()))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


class _Untouched:
    def normal(self, count: int) -> Tensor:
        raise AssertionError("no noise is drawn without privacy")

    def uniform(self, count: int) -> Tensor:
        raise AssertionError("the engine draws no coins")


def test_without_privacy_the_step_is_the_plain_gradient_of_the_mean_over_patients() -> None:
    network, (images, labels, owner) = _discriminator(), _patients([3, 1, 2])
    parameters = list(network.parameters())
    by_patient = [_softplus(network, images[owner == i], labels[owner == i]).mean() for i in range(3)]
    real = _flat(torch.autograd.grad(torch.stack(by_patient).mean(), parameters))
    fake = _flat(torch.autograd.grad(_softplus(network, -images, labels).mean(), parameters))
    before = _flat(network.parameters())
    optimizer = _optimizer(network, _Untouched(), clip=None)
    optimizer.step(_softplus, images, labels, owner, lambda inner: _softplus(inner, -images, labels).mean())
    assert torch.allclose(before - _flat(network.parameters()), real + fake, atol=1e-6)


def test_without_privacy_an_empty_batch_moves_by_fakes_alone() -> None:
    network = _line()
    nothing = torch.zeros(0, PIXELS, dtype=torch.float64)
    optimizer = _optimizer(network, _Untouched(), clip=None)
    optimizer.step(
        _score,
        nothing,
        nothing[:, 0],
        torch.zeros(0, dtype=torch.int64),
        lambda inner: inner(torch.ones(2, PIXELS, dtype=torch.float64)).mean(),
    )
    assert _flat(network.parameters()).tolist() == [-1.0] * PIXELS


class _Pair(nn.ModuleDict):
    """Two networks that are trained together: an encoder and a judge of what it makes."""

    def __init__(self) -> None:
        super().__init__({"encoder": nn.Linear(PIXELS, 3), "judge": nn.Linear(3, 1)})
        for index, parameter in enumerate(self.parameters()):
            values = torch.linspace(-1, 1 + index, parameter.numel()).view_as(parameter)
            parameter.data = values.double()


def _pair_loss(networks: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    assert isinstance(networks, nn.ModuleDict)
    scores: Tensor = networks["judge"](torch.tanh(networks["encoder"](images)))
    return (scores.squeeze(1) - labels).square()


def _pair_data() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(5, PIXELS, dtype=torch.float64, generator=random)
    return images, torch.randn(5, dtype=torch.float64, generator=random), torch.tensor([0, 0, 1, 2, 2])


@pytest.mark.parametrize("clip", [0.1, 1e3])
def test_several_networks_are_clipped_as_one_and_move_together_from_the_same_weights(clip: float) -> None:
    networks, data = _Pair(), _pair_data()
    expected = clipped_sum(by_hand(networks, _pair_loss, data[0], data[1]), data[2], clip)
    before = [p.detach().clone() for p in networks.parameters()]
    rules = [optim.SGD(networks["encoder"].parameters(), 1.0), optim.SGD(networks["judge"].parameters(), 0.5)]
    optimizer = PrivateOptimizer(
        networks, rules, clip_norm=clip, noise_multiplier=0.0, nominal_batch=4.0, random=Silent()
    )
    optimizer.step(_pair_loss, *data)
    rates = [1.0, 1.0, 0.5, 0.5]
    for old, new, total, rate in zip(before, networks.parameters(), expected, rates, strict=True):
        assert torch.allclose(old - new.detach(), rate * total / 4, rtol=1e-9, atol=1e-12)


def test_one_patient_moves_all_networks_together_by_the_clip_norm_at_most() -> None:
    networks, (images, labels, owner) = _Pair(), _pair_data()
    for patient in range(3):
        rows = torch.eq(owner, patient)
        total = BookKeeper(networks).clipped_sum(_pair_loss, images[rows], labels[rows], owner[rows], 0.01)
        assert float(_flat(total).norm()) == pytest.approx(0.01, rel=1e-6)


def test_the_noise_of_several_networks_is_drawn_once_for_all_their_weights() -> None:
    networks, spy = _Pair(), Spy()
    rules = [optim.SGD(one.parameters(), 1.0) for one in networks.values()]
    optimizer = PrivateOptimizer(
        networks, rules, clip_norm=2.0, noise_multiplier=3.0, nominal_batch=4.0, random=spy
    )
    before = _flat(networks.parameters())
    images, labels, owner = _pair_data()
    optimizer.step(_pair_loss, images[:0], labels[:0], owner[:0])
    count = PIXELS * 3 + 3 + 3 + 1
    assert spy.calls == [count]
    expected = torch.arange(1, count + 1, dtype=torch.float64) * 2 * 3 / 4
    assert torch.allclose(before - _flat(networks.parameters()), expected)
    with pytest.raises(ValueError, match="too many values"):
        _ = optimizer.rule


def test_a_free_term_may_leave_one_of_several_networks_alone() -> None:
    networks = _Pair()
    rules = [optim.SGD(one.parameters(), 1.0) for one in networks.values()]
    optimizer = PrivateOptimizer(
        networks, rules, clip_norm=2.0, noise_multiplier=0.0, nominal_batch=4.0, random=Silent()
    )
    before = [_flat(one.parameters()) for one in networks.values()]
    images, labels, owner = _pair_data()
    drawn = torch.ones(2, 3, dtype=torch.float64)
    free = lambda networks: networks["judge"](drawn).mean() / 10  # noqa: E731
    optimizer.step(_pair_loss, images[:0], labels[:0], owner[:0], free)
    moved = [old - _flat(one.parameters()) for old, one in zip(before, networks.values(), strict=True)]
    assert float(moved[0].abs().max()) == 0
    assert torch.allclose(moved[1], torch.full((4,), 0.1, dtype=torch.float64))


def test_a_weight_without_a_rule_or_with_two_is_refused() -> None:
    network = nn.Linear(2, 1)
    for rules in ([optim.SGD([network.weight], 1.0)], [optim.SGD(network.parameters(), 1.0)] * 2):
        with pytest.raises(ConfigError, match="exactly one update rule for each weight"):
            PrivateOptimizer(
                network, rules, clip_norm=1.0, noise_multiplier=0.0, nominal_batch=1.0, random=Silent()
            )


@pytest.mark.parametrize("clip", [0.5, None])
def test_in_half_precision_passes_are_bfloat16_and_noise_and_weights_are_not(clip: float | None) -> None:
    network, data = _discriminator(), _patients([2, 1])
    seen: list[torch.dtype] = []

    def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        scores: Tensor = network(images, labels)
        seen.append(scores.dtype)
        return nn.functional.softplus(-scores)

    before = _flat(network.parameters())
    optimizer = PrivateOptimizer(
        network,
        optim.SGD(network.parameters(), 1.0),
        clip_norm=clip,
        noise_multiplier=1.0,
        nominal_batch=2.0,
        random=SeededRandom(0),
        precision="bfloat16",
    )
    optimizer.step(loss, *data, lambda network: loss(network, *data[:2]).mean())
    assert seen == [torch.bfloat16] * 2
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    if clip is not None:
        images, labels, owner = data
        network = _discriminator()
        optimizer = _optimizer(network, SeededRandom(0), clip=clip, sigma=1.0, nominal=2.0)
        optimizer.step(_softplus, images[:0], labels[:0], owner[:0])
        noise = before - _flat(network.parameters())
        assert torch.allclose(noise, SeededRandom(0).normal(len(noise)) * clip / 2, atol=1e-6)


def test_the_default_is_float32_whatever_the_machine() -> None:
    assert not _optimizer(_line(), Silent())._half


def test_a_physical_batch_gives_the_step_of_the_whole_batch() -> None:
    moved = []
    for physical in (None, 2):
        network = _discriminator()
        before = _flat(network.parameters())
        PrivateOptimizer(
            network,
            optim.SGD(network.parameters(), 1.0),
            clip_norm=0.5,
            noise_multiplier=1.0,
            nominal_batch=4.0,
            random=SeededRandom(0),
            physical_batch=physical,
        ).step(_softplus, *_patients([3, 1, 2, 1]))
        moved.append(before - _flat(network.parameters()))
    assert torch.allclose(moved[0], moved[1], atol=1e-6)
