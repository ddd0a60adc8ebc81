"""One discriminator step on B real and B fake images, made private in several ways or not at all.

The discriminator: convolutions 4×4 of stride 2 from 1 to 64, 128 and 256 channels, LeakyReLU and one linear
layer, on 32×32 pixels; C = 1, σ = 1, Adam. Every patient has one image. All private steps but the last draw
the same float32 noise, which protects nobody; the last draws the noise of the privacy contract.
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn, optim
from torch.func import functional_call, grad, vmap
from torch.nn.functional import softplus

from medgan_core.config import Precision
from medgan_core.privacy.hooks import Hooked
from medgan_core.privacy.noise import Keystream, SecretRandom
from medgan_core.privacy.plan import PrivacyPlan

SIZE, WIDTH = 32, 64
Step = Callable[[], None]


class Float32Noise:
    """Gaussians as fast as torch draws them."""

    def normal(self, count: int) -> Tensor:
        """Standard Gaussians, float32 [count]."""
        return torch.randn(count)

    def uniform(self, count: int) -> Tensor:
        """Uniform draws, float32 [count]."""
        return torch.rand(count)


class Silence(Float32Noise):
    """No noise, to compare gradients."""

    def normal(self, count: int) -> Tensor:
        """Zeros [count]."""
        return torch.zeros(count)


class Setting:
    """A discriminator with its rule, and the images of one step."""

    def __init__(self, batch: int, noise: SecretRandom, size: int = SIZE, width: int = WIDTH) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = _discriminator(size, width)
            self.reals, self.fakes = torch.rand(2, batch, 1, size, size).unbind()
        self.batch, self.noise = batch, noise
        self.rule = partial(optim.Adam, lr=2e-4, betas=(0.5, 0.999))
        self.parameters = list(self.network.parameters())

    def noisy_step(
        self, rule: optim.Optimizer, total: list[Tensor], free: list[Tensor] | None = None
    ) -> None:
        """Update by the noisy mean of a clipped sum and, where given, a gradient of fakes clipped as well."""
        added = [torch.zeros(())] * len(total) if free is None else _clipped(free)
        for parameter, summed, of_fakes in zip(self.parameters, total, added, strict=True):
            noise = self.noise.normal(summed.numel()).view_as(summed)
            parameter.grad = (summed + noise) / self.batch + of_fakes
        rule.step()


def _discriminator(size: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * width * (size // 8) ** 2, 1))


def _real(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    scores: Tensor = network(images)
    return softplus(-scores.squeeze(1))


def _fake(network: nn.Module, images: Tensor) -> Tensor:
    scores: Tensor = network(images)
    return softplus(scores.squeeze(1))


def _both(network: nn.Module, images: Tensor) -> Tensor:
    """Losses of a batch whose first half is real, [2B]."""
    scores: Tensor = network(images).squeeze(1)
    signs = torch.ones_like(scores)
    signs[: len(scores) // 2] = -1
    return softplus(signs * scores)


def _clipped(gradients: list[Tensor]) -> list[Tensor]:
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    return [gradient / norm.clamp_min(1.0) for gradient in gradients]


def _clipped_sum(per_image: list[Tensor]) -> list[Tensor]:
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in per_image]).norm(dim=0)
    factors = 1.0 / norms.clamp_min(1.0)
    return [torch.tensordot(factors, gradient, 1) for gradient in per_image]


def plain(setting: Setting) -> Step:
    """Not private: one pass over reals and fakes together."""
    rule, images = setting.rule(setting.parameters), torch.cat([setting.reals, setting.fakes])

    def step() -> None:
        rule.zero_grad(set_to_none=True)
        (2 * _both(setting.network, images).mean()).backward()
        rule.step()

    return step


def opacus_both(setting: Setting) -> Step:
    """Opacus' hooks over reals and fakes, which also clips each fake."""
    rule, images = setting.rule(setting.parameters), torch.cat([setting.reals, setting.fakes])
    hooked = Hooked(setting.network)
    return lambda: setting.noisy_step(rule, _clipped_sum(hooked.per_image(lambda n: _both(n, images))))


def opacus_reals(setting: Setting) -> Step:
    """Opacus' hooks over the reals; the fakes as one gradient."""
    rule, hooked = setting.rule(setting.parameters), Hooked(setting.network)

    def step() -> None:
        total = _clipped_sum(hooked.per_image(lambda n: _real(n, setting.reals, setting.reals)))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            free = torch.autograd.grad(_fake(setting.network, setting.fakes).mean(), setting.parameters)
        setting.noisy_step(rule, total, list(free))

    return step


def vectorised(setting: Setting) -> Step:
    """torch.func's vmap(grad) over reals and fakes."""
    rule, images = setting.rule(setting.parameters), torch.cat([setting.reals, setting.fakes])
    signs = torch.cat([-torch.ones(setting.batch), torch.ones(setting.batch)])

    def one(parameters: dict[str, Tensor], image: Tensor, sign: Tensor) -> Tensor:
        scores: Tensor = functional_call(setting.network, parameters, (image[None],))
        return softplus(sign * scores).sum()

    every = vmap(grad(one), in_dims=(None, 0, 0))

    def step() -> None:
        detached = {name: p.detach() for name, p in setting.network.named_parameters()}
        setting.noisy_step(rule, _clipped_sum(list(every(detached, images, signs).values())))

    return step


def engine(setting: Setting, precision: Precision = "float32", physical_batch: int | None = None) -> Step:
    """Ours: patients by book-keeping, the fakes as one gradient."""
    plan = PrivacyPlan(
        True, "patient", "add/remove", 1e-5, 1.0, 0.1, float(setting.batch), 1, 1, 1, 1, 1.0, 1.0, 1.0
    )
    optimizer = plan.optimizer(
        setting.network, setting.rule, setting.noise, precision=precision, physical_batch=physical_batch
    )
    owner, labels = torch.arange(setting.batch), torch.zeros(setting.batch)
    free = lambda network: _fake(network, setting.fakes).mean()  # noqa: E731
    return lambda: optimizer.step(_real, setting.reals, labels, owner, free)


METHODS: dict[str, tuple[Callable[[Setting], Step], Callable[[], SecretRandom]]] = {
    "plain": (plain, Float32Noise),
    "opacus": (opacus_both, Float32Noise),
    "opacus-reals": (opacus_reals, Float32Noise),
    "vmap": (vectorised, Float32Noise),
    "engine": (engine, Float32Noise),
    "engine-bfloat16": (partial(engine, precision="bfloat16"), Float32Noise),
    "engine-contract-noise": (engine, Keystream),
}
