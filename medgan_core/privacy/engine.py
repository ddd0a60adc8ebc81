"""The only door through which patients' gradients reach weights: clipping by patient, noise, one update.

Abadi et al. 2016, "Deep Learning with Differential Privacy", https://arxiv.org/abs/1607.00133, with the
patient as the unit: the gradients of a patient's images are averaged first, then clipped.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn, optim

from medgan_core.config import Precision
from medgan_core.errors import ConfigError
from medgan_core.precision import halves
from medgan_core.privacy.book_keeping import BookKeeper, ExampleLoss
from medgan_core.privacy.grid import to_grid
from medgan_core.privacy.noise import SecretRandom
from medgan_core.privacy.noise_watch import NoiseWatch

FreeLoss = Callable[[nn.Module], Tensor]


class NoisedOptimizer:
    """Steps of networks along a gradient of patients that is noised already, and beside it on fakes.

    It knows no patient: whoever holds a noisy sum may take such a step. `clip_norm` bounds the fakes'
    gradient (None: as it is). `private` are the parameters that patients reach.
    """

    def __init__(
        self,
        network: nn.Module,
        rules: optim.Optimizer | Sequence[optim.Optimizer],
        *,
        clip_norm: float | None,
        precision: Precision = "float32",
    ) -> None:
        self.network = network
        self.rules = (rules,) if isinstance(rules, optim.Optimizer) else tuple(rules)
        self.clip_norm = clip_norm
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.private = self.parameters
        owned = [id(p) for rule in self.rules for group in rule.param_groups for p in group["params"]]
        if any(owned.count(id(p)) != 1 for p in self.parameters):
            raise ConfigError("rules", len(self.rules), "exactly one update rule for each weight")
        self._half = halves(precision, self.parameters[0].device)

    @property
    def rule(self) -> optim.Optimizer:
        """The update rule of the only network."""
        (rule,) = self.rules
        return rule

    def follow(self, of_patients: Sequence[Tensor], free: FreeLoss | None = None) -> None:
        """One update by the mean gradient of patients, parameter by parameter, and that of a loss over fakes.

        `free(network)` is a mean loss over fakes, which depends on no patient.
        """
        fake = self._of_fakes(free)
        for parameter, real, of_fakes in zip(self.parameters, of_patients, fake, strict=True):
            parameter.grad = real + of_fakes
        for rule in self.rules:
            rule.step()

    def _of_fakes(self, free: FreeLoss | None) -> Sequence[Tensor]:
        if free is None:
            return [torch.zeros_like(p) for p in self.parameters]
        return self._bounded(self._gradient(lambda: free(self.network), self.parameters))

    def _bounded(self, fake: Sequence[Tensor]) -> Sequence[Tensor]:
        """The fakes' gradient under the same bound as a patient's, so that neither side drowns the other.

        Where there is no patient's gradient it is as it was.
        """
        if self.clip_norm is None:
            return fake
        both = {id(parameter) for parameter in self.private}
        beside = [id(parameter) in both for parameter in self.parameters]
        norm = torch.stack([part.norm() for part, bound in zip(fake, beside, strict=True) if bound]).norm()
        factor = (self.clip_norm / norm.clamp_min(1e-12)).clamp_max(1.0)
        return [part * factor if bound else part for part, bound in zip(fake, beside, strict=True)]

    def _gradient(self, scalar: Callable[[], Tensor], parameters: Sequence[nn.Parameter]) -> Sequence[Tensor]:
        with torch.autocast(self.parameters[0].device.type, torch.bfloat16, enabled=self._half):
            value = scalar()
        return torch.autograd.grad(value, parameters, materialize_grads=True)


class PrivateOptimizer(NoisedOptimizer):
    """Steps of one network on private patients and, beside them, on fakes that cost nothing.

    Several networks in a ModuleDict are one mechanism: losses see the ModuleDict, a patient's gradient is
    clipped over all of them together, and all their rules update from the same weights. `free_parts` are
    modules of the network that learn from fakes alone: while a patient's loss is reckoned they are constants,
    so that none of its gradient can reach them, and they get no noise.

    `clip_norm` C bounds what one patient moves the gradient sum by (None: no privacy, plain gradients);
    `noise_multiplier` σ adds Gaussians of standard deviation σC to that sum; `nominal_batch` is the public
    divisor of the sum. `physical_batch`: how many images pass at once (see `BookKeeper`). `precision` of the
    passes; norms, sums and noise are float32 or better. `auto` is bfloat16 where the device is made for it,
    so that results differ between machines. `watch` is shown a part of the noise that is added. Made by
    `PrivacyPlan.optimizer` alone.
    """

    def __init__(
        self,
        network: nn.Module,
        rules: optim.Optimizer | Sequence[optim.Optimizer],
        *,
        clip_norm: float | None,
        noise_multiplier: float,
        nominal_batch: float,
        random: SecretRandom,
        physical_batch: int | None = None,
        precision: Precision = "float32",
        free_parts: Sequence[nn.Module] = (),
        watch: NoiseWatch | None = None,
    ) -> None:
        super().__init__(network, rules, clip_norm=clip_norm, precision=precision)
        self.watch = watch
        self._free = [p for part in free_parts for p in part.parameters() if p.requires_grad]
        self.noise_multiplier = noise_multiplier
        self.nominal_batch = nominal_batch
        self.random = random
        self._keeper: BookKeeper | None = None
        with _constant(self._free):
            self.private = [p for p in self.parameters if p.requires_grad]
            if clip_norm is not None:
                self._keeper = BookKeeper(network, physical_batch=physical_batch, half=self._half)

    def step(
        self, loss: ExampleLoss, images: Tensor, labels: Tensor, owner: Tensor, free: FreeLoss | None = None
    ) -> None:
        """One update on the patients sampled for this step.

        `loss(network, images, labels)` gives one value per image, [n], that depends on this image alone;
        `owner` [n] numbers the patients 0, 1, …; an image that is there in several views has several rows of
        one owner. `free(network)` is a mean loss over fakes, which depends on no patient. A step without any
        patient is a step with noise.
        """
        self.follow(self._of_patients(loss, images, labels, owner), free)

    def _of_patients(
        self, loss: ExampleLoss, images: Tensor, labels: Tensor, owner: Tensor
    ) -> Sequence[Tensor]:
        with _constant(self._free):
            found = self._of_private(loss, images, labels, owner)
        known = dict(zip(self.private, found, strict=True))
        return [known[p] if p in known else torch.zeros_like(p) for p in self.parameters]

    def _of_private(
        self, loss: ExampleLoss, images: Tensor, labels: Tensor, owner: Tensor
    ) -> Sequence[Tensor]:
        if self._keeper is None or self.clip_norm is None:
            return self._plain_mean(loss, images, labels, owner)
        total = self._keeper.clipped_sum(loss, images, labels, owner, self.clip_norm)
        return self._noisy_mean(total, self.noise_multiplier * self.clip_norm)

    def _noisy_mean(self, total: Sequence[Tensor], deviation: float) -> Sequence[Tensor]:
        unused = total[0].new_zeros(self.watch.width if self.watch else 0)
        sums = [*total, unused]
        sizes = [summed.numel() for summed in sums]
        parts = self.random.normal(sum(sizes)).to(unused.device).split(sizes)
        *noisy, extra = (
            summed.add(part.view_as(summed), alpha=deviation)
            for part, summed in zip(parts, sums, strict=True)
        )
        if self.watch:
            self.watch.see(extra)
        return [
            one.div_(self.nominal_batch).to(parameter.dtype)
            for one, parameter in zip(noisy, self.private, strict=True)
        ]

    def _plain_mean(
        self, loss: ExampleLoss, images: Tensor, labels: Tensor, owner: Tensor
    ) -> Sequence[Tensor]:
        if len(images) == 0:
            return [torch.zeros_like(p) for p in self.private]
        weight = 1.0 / owner.bincount()[owner]
        weight = weight / weight.sum()
        return self._gradient(lambda: (loss(self.network, images, labels) * weight).sum(), self.private)


@contextmanager
def _constant(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """No gradient reaches these parameters in the block."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def clipped_grid_sum(
    network: nn.Module,
    loss: ExampleLoss,
    images: Tensor,
    labels: Tensor,
    owner: Tensor,
    clip_norm: float,
    *,
    physical_batch: int | None = None,
    precision: Precision = "float32",
) -> Tensor:
    """Σ over patients of their clipped gradients, in units of the clip norm, on the grid of secure sums.

    Int64 [weights], without noise; the arguments are those of `PrivateOptimizer.step`. One patient moves it
    by at most `grid.sensitivity_of_gradients`. Called by `PrivacyPlan.gradient_sum` alone.
    """
    half = halves(precision, next(network.parameters()).device)
    keeper = BookKeeper(network, physical_batch=physical_batch, half=half)
    total = keeper.clipped_sum(loss, images, labels, owner, clip_norm)
    return to_grid(torch.cat([part.double().flatten() for part in total]) / clip_norm)
