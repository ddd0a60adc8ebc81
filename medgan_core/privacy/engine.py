"""The only door through which patients' gradients reach weights: clipping by patient, noise, one update.

Abadi et al. 2016, "Deep Learning with Differential Privacy", https://arxiv.org/abs/1607.00133, with the
patient as the unit: the gradients of a patient's images are averaged first, then clipped. Per-image gradients
come from Opacus' hooks.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from opacus import GradSampleModule
from opacus.validators import ModuleValidator
from opacus.validators.errors import UnsupportedModuleError
from torch import Tensor, nn, optim
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from medgan_core.errors import ConfigError
from medgan_core.privacy.noise import SecretRandom

ExampleLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]
FreeLoss = Callable[[nn.Module], Tensor]


class PrivateOptimizer:
    """Steps of one network on private patients and, beside them, on fakes that cost nothing.

    `clip_norm` C bounds what one patient moves the gradient sum by (None: no privacy, plain gradients);
    `noise_multiplier` σ adds Gaussians of standard deviation σC to that sum; `nominal_batch` is the public
    divisor of the sum. Made by `PrivacyPlan.optimizer` alone.
    """

    def __init__(
        self,
        network: nn.Module,
        rule: optim.Optimizer,
        *,
        clip_norm: float | None,
        noise_multiplier: float,
        nominal_batch: float,
        random: SecretRandom,
    ) -> None:
        self.network = network
        self.rule = rule
        self.clip_norm = clip_norm
        self.noise_multiplier = noise_multiplier
        self.nominal_batch = nominal_batch
        self.random = random
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self._hooked = hooked(network) if clip_norm is not None else None

    def step(self, loss: ExampleLoss, images: Tensor, labels: Tensor, owner: Tensor, free: FreeLoss) -> None:
        """One update on the patients sampled for this step.

        `loss(network, images, labels)` gives one value per image, [n]; `owner` [n] numbers the patients
        0, 1, …; `free(network)` is a mean loss over fakes, which depends on no patient. A step without any
        patient is a step with noise.
        """
        self.rule.zero_grad(set_to_none=True)
        mean = self._plain_mean if self._hooked is None else self._noisy_mean
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook is firing")  # images need no gradient here
            real = mean(loss, images, labels, owner)
            fake = self._bounded(torch.autograd.grad(free(self.network), self.parameters))
        for parameter, of_patients, of_fakes in zip(self.parameters, real, fake, strict=True):
            parameter.grad = of_patients + of_fakes
        self.rule.step()

    def _bounded(self, fake: Sequence[Tensor]) -> Sequence[Tensor]:
        """The fakes' gradient under the same bound as a patient's, so that neither side drowns the other."""
        if self.clip_norm is None:
            return fake
        norm = torch.stack([gradient.norm() for gradient in fake]).norm()
        factor = (self.clip_norm / norm.clamp_min(1e-12)).clamp_max(1.0)
        return [gradient * factor for gradient in fake]

    def close(self) -> None:
        """Take the hooks off the network."""
        if self._hooked is not None:
            self._hooked.to_standard_module()

    def _noisy_mean(
        self, loss: ExampleLoss, images: Tensor, labels: Tensor, owner: Tensor
    ) -> Sequence[Tensor]:
        total = self._clipped_sum(loss, images, labels, owner)
        deviation = self.noise_multiplier * float(self.clip_norm or 0.0)
        noise = self.random.normal(sum(p.numel() for p in self.parameters)) * deviation
        parts = noise.split([p.numel() for p in self.parameters])
        return [
            ((part.view_as(summed) + summed) / self.nominal_batch).to(parameter.dtype)
            for part, summed, parameter in zip(parts, total, self.parameters, strict=True)
        ]

    def _clipped_sum(self, loss: ExampleLoss, images: Tensor, labels: Tensor, owner: Tensor) -> list[Tensor]:
        if len(images) == 0:
            return [torch.zeros_like(p) for p in self.parameters]
        per_image = self._per_image_gradients(loss, images, labels)
        return clipped_sum(per_image, owner, float(self.clip_norm or 0.0))

    def _per_image_gradients(self, loss: ExampleLoss, images: Tensor, labels: Tensor) -> list[Tensor]:
        module = self._hooked
        if module is None:
            raise RuntimeError("per-image gradients without hooks")
        module.enable_hooks()
        try:
            loss(module, images, labels).sum().backward()
            gradients = [p.grad_sample.detach() for p in module.parameters() if p.requires_grad]
        finally:
            module.disable_hooks()
            module.zero_grad(set_to_none=True)
        return gradients

    def _plain_mean(
        self, loss: ExampleLoss, images: Tensor, labels: Tensor, owner: Tensor
    ) -> Sequence[Tensor]:
        if len(images) == 0:
            return [torch.zeros_like(p) for p in self.parameters]
        weight = 1.0 / owner.bincount()[owner]
        mean = (loss(self.network, images, labels) * weight).sum() / weight.sum()
        return torch.autograd.grad(mean, self.parameters)


def clipped_sum(per_image: list[Tensor], owner: Tensor, clip_norm: float) -> list[Tensor]:
    """Σ over patients of their mean gradient, each scaled to a norm of at most `clip_norm` over all tensors.

    `per_image` holds one tensor [n, …] for each parameter. A patient whose gradient is not finite contributes
    zero. In float64, so that rounding in the sum of the others stays far below what one patient may add.
    """
    _, place, count = owner.unique(return_inverse=True, return_counts=True)
    means = []
    for gradient in per_image:
        flat = gradient.flatten(1).double()
        means.append(
            flat.new_zeros(len(count), flat.shape[1]).index_add_(0, place, flat).div_(count[:, None])
        )
    norms = torch.stack([torch.linalg.vector_norm(mean, dim=1) for mean in means]).norm(dim=0)
    factor = (clip_norm / norms.clamp_min(1e-12)).clamp_max(1.0)
    finite = torch.isfinite(norms).nonzero().squeeze(1)
    return [
        (factor[finite] @ (mean if len(finite) == len(mean) else mean[finite])).view(gradient.shape[1:])
        for mean, gradient in zip(means, per_image, strict=True)
    ]


def hooked(network: nn.Module) -> GradSampleModule:
    """The network under Opacus' hooks, switched off until a private pass.

    Raises ConfigError naming the layer where one mixes examples and would break the guarantee.
    """
    expected = "layers that keep examples apart and learn nothing outside of the optimiser"
    for name, layer in network.named_modules():
        if _mixes(layer):
            raise ConfigError("discriminator", f"{name or 'network'}: {type(layer).__name__}", expected)
    try:
        ModuleValidator.validate(network, strict=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = GradSampleModule(network, batch_first=True, loss_reduction="sum")
    except (UnsupportedModuleError, NotImplementedError) as error:
        raise ConfigError("discriminator", type(network).__name__, f"{expected}: {error}") from None
    module.disable_hooks()
    return module


def _mixes(layer: nn.Module) -> bool:
    """Whether a layer looks at the batch or keeps statistics of it; Opacus checks only those with weights."""
    return isinstance(layer, _BatchNorm) or (isinstance(layer, _NormBase) and layer.track_running_stats)
