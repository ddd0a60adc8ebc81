"""What translation is compared with: guesses and regressions of the second modality from the first."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from simulations.benchmarks.tasks.case import Case, Judge, Reached
from simulations.benchmarks.tasks.federated import medgan, without_discriminator
from simulations.benchmarks.tasks.judging import Made, judged

_LEVELS = 256
_LEAST_VARIANCE = 1e-3
Fit = Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]]
"""From training sources and targets, [n, 1, h, w] each, to a function from sources to targets."""


def mean_image(sources: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
    """The mean of all training targets, whatever the source."""
    mean = targets.mean(dim=0, keepdim=True)
    return lambda inputs: mean.expand_as(inputs)


def identity(sources: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
    """The source itself."""
    return lambda inputs: inputs


def linear(sources: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
    """Least squares of a pixel of the target on that of the source, the same everywhere."""
    slope, start = _least_squares(sources.flatten()[:, None], targets.flatten()[:, None])
    return lambda inputs: start + slope * inputs


def by_intensity(sources: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
    """The mean target of every intensity of the source, in 256 levels: a regression of any shape."""
    levels = _level(sources).flatten()
    sums = torch.zeros(_LEVELS, dtype=torch.float64).index_add_(0, levels, targets.flatten().double())
    counts = levels.bincount(minlength=_LEVELS)
    means = torch.where(counts > 0, sums / counts.clamp_min(1), 0.0).float()
    return lambda inputs: means[_level(inputs)]


def by_position(sources: Tensor, targets: Tensor) -> Callable[[Tensor], Tensor]:
    """Least squares of every pixel of the target on the same pixel of the source, apart for each place."""
    slope, start = _least_squares(sources, targets)
    return lambda inputs: start + slope * inputs


def _least_squares(sources: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept over the first axis; a place that hardly varies gets a slope near 0."""
    mean_source, mean_target = sources.mean(dim=0), targets.mean(dim=0)
    covariance = ((sources - mean_source) * (targets - mean_target)).mean(dim=0)
    slope = covariance / ((sources - mean_source).square().mean(dim=0) + _LEAST_VARIANCE)
    return slope, mean_target - slope * mean_source


def _level(images: Tensor) -> Tensor:
    return ((images.clamp(-1, 1) + 1) / 2 * (_LEVELS - 1)).round().long()


def _fitted(fit: Fit) -> Judge:
    @wraps(fit)
    def judge(case: Case) -> Reached:
        images = case.patients[0].images
        made = Made(fit(images[:, :1], images[:, 1:]))
        return judged(case, made if case.study.mapping.paired else torch.nn.ModuleDict({"forth": made}))

    return judge


METHODS: dict[str, Judge] = {
    "medgan": medgan,
    "l1-only": without_discriminator,
    "mean-image": _fitted(mean_image),
    "identity": _fitted(identity),
    "linear": _fitted(linear),
    "by-intensity": _fitted(by_intensity),
    "by-position": _fitted(by_position),
}
