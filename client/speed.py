"""How many discriminator steps this machine makes in a second."""

import time
from functools import partial

import torch

from medgan_core.adversarial import discriminator_rule, mean_fake_loss
from medgan_core.config import Study, parse_study
from medgan_core.device import CPU
from medgan_core.gan.task import synthesis_of
from medgan_core.gan.tasks import make_task
from medgan_core.privacy.noise import Keystream
from medgan_core.privacy.plan import PrivacyPlan

_CLASSES = ("a", "b")
_NOISE = {"noise_multiplier": 1.0, "one_shot_noise_multiplier": 1.0}


def default_study(classes: tuple[str, ...] = _CLASSES) -> Study:
    """A study of defaults, where none is proposed yet."""
    data = {"kind": "npz", "path": "x", "classes": list(classes)}
    return parse_study({"name": "check", "strategy": "refine", "data": data, "privacy": _NOISE})


def steps_per_second(study: Study, seconds: float = 1.0, device: torch.device = CPU) -> float:
    """Private discriminator steps of a study on random images, in a nominal batch; measured, not guessed."""
    data = study.data
    shape = data.image_shape
    task, plan = synthesis_of(make_task(study, shape, data.classes)), PrivacyPlan.of(study, "patient")
    batch = max(1, round(study.nominal_batch))
    images = torch.rand(batch, *shape, device=device) * 2 - 1
    owner = torch.arange(batch, device=device)
    labels = owner % max(1, len(data.classes))
    optimizer = plan.optimizer(
        task.make_discriminator().to(device),
        partial(discriminator_rule, study, 1),
        Keystream(),
        physical_batch=study.training.physical_batch,
        precision=study.training.precision,
    )
    fakes = torch.rand(study.training.batch, *shape, device=device)
    fake_labels = torch.zeros(study.training.batch, dtype=torch.int64, device=device)
    free = partial(mean_fake_loss, task, fakes, fake_labels)

    def step() -> None:
        optimizer.step(task.real_loss, images, labels, owner, free)

    step()  # the first one warms up
    _done(device)
    count, began = 0, time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        step()
        _done(device)
        count += 1
    return count / passed


def _done(device: torch.device) -> None:
    """Wait for what was only queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
