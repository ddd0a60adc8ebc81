"""What anomaly detection is compared with."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from medgan_core.gan.adversaries import mean_of
from simulations.benchmarks.baselines.method import changed
from simulations.benchmarks.tasks.case import Case, Judge, Reached
from simulations.benchmarks.tasks.federated import medgan, released
from simulations.benchmarks.tasks.judging import judged

_MIDDLE = 0.05
"""The mean squared residual of pixels that is told as a probability of .5."""


def by_pixels(case: Case) -> Reached:
    """The study as it is, judged by the residual of pixels and not of texture."""
    generator, epsilon = released(case, case.study, case.sites)
    return replace(judged(case, generator, _scores), epsilon=epsilon)


def autoencoder(case: Case) -> Reached:
    """The same encoder and decoder in the same federation, trained on pixels alone and judged by them."""
    study = changed(case.study, {"mapping.adversarial_weight": 0.0})
    generator, epsilon = released(case, study, case.sites)
    return replace(judged(case, generator, _scores), epsilon=epsilon)


def _scores(generator: nn.Module, rows: Tensor) -> Tensor:
    """The probability that each image is abnormal, [n, 1], by its residual of pixels."""
    again = generator.get_submodule("decoder")(generator.get_submodule("encoder")(rows))
    residual = mean_of((rows - again).double().square())
    return torch.sigmoid(torch.log(residual.clamp_min(1e-12) / _MIDDLE))[:, None]


METHODS: dict[str, Judge] = {"medgan": medgan, "by-pixels": by_pixels, "autoencoder": autoencoder}
