"""What restoration is compared with: the classical methods for its corruption, and L1 alone."""

from functools import partial, wraps

import torch
from torch import Tensor, nn

from medgan_core.gan.outputs import prepared_alone
from medgan_core.gan.scores import psnr_share, squared_error, ssim
from simulations.benchmarks.tasks.case import Case, Judge, Reached
from simulations.benchmarks.tasks.classical import CLASSICAL, Method, Restorer
from simulations.benchmarks.tasks.federated import medgan, without_discriminator
from simulations.benchmarks.tasks.judging import Made, judged

_TRIED_ON = 100
"""Training patients on whose images the settings of a classical method are chosen."""


def _classical(name: str, method: Method) -> Judge:
    @wraps(method)
    def judge(case: Case) -> Reached | None:
        if name not in CLASSICAL.get(case.study.mapping.corruption, {}):
            return None
        training = case.patients[0]
        some = training.of_patients(range(min(_TRIED_ON, len(training)))).images
        rows, channels = prepared_alone(case.task, some), case.task.image_shape[0]
        restorer = Restorer(name, method, rows[:, : channels + 1], rows[:, channels + 1 :])
        return judged(case, Made(restorer), partial(_as_it_is, channels))

    return judge


def _as_it_is(channels: int, made: nn.Module, rows: Tensor) -> Tensor:
    """The task's scores of what was made of the spoiled image itself, and not of the task's first guess."""
    inputs, images = rows[:, : channels + 1], rows[:, channels + 1 :]
    restored = made(inputs).clamp(-1, 1)
    return torch.stack([part(restored, images) for part in (psnr_share, ssim, squared_error)], dim=1)


METHODS: dict[str, Judge] = {
    "medgan": medgan,
    "l1-only": without_discriminator,
    **{name: _classical(name, method) for own in CLASSICAL.values() for name, method in own.items()},
}
