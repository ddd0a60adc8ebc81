"""What this machine can do: its device, and how many discriminator steps it makes in a second."""

import time
from functools import partial

import torch

from medgan_core.adversarial import discriminator_rule, mean_fake_loss
from medgan_core.config import Study, parse_study
from medgan_core.gan.tasks import make_task
from medgan_core.privacy.noise import Keystream
from medgan_core.privacy.plan import PrivacyPlan

_CLASSES = ("a", "b")
_NOISE = {"noise_multiplier": 1.0, "one_shot_noise_multiplier": 1.0}


def device_name() -> str:
    """The device that training uses, as a person knows it."""
    own = f"CPU, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        return own
    return f"{own}; the GPU of this machine is not used by this version"


def default_study(classes: tuple[str, ...] = _CLASSES) -> Study:
    """A study of defaults, where none is proposed yet."""
    data = {"kind": "npz", "path": "x", "classes": list(classes)}
    return parse_study({"name": "check", "strategy": "refine", "data": data, "privacy": _NOISE})


def steps_per_second(study: Study, seconds: float = 1.0) -> float:
    """Private discriminator steps of a study on random images, in a nominal batch; measured, not guessed."""
    data = study.data
    shape = (data.channels, data.image_size, data.image_size)
    task, plan = make_task(study, shape, data.classes), PrivacyPlan.of(study, "patient")
    batch = max(1, round(study.nominal_batch))
    images, owner = torch.rand(batch, *shape) * 2 - 1, torch.arange(batch)
    labels = owner % max(1, len(data.classes))
    optimizer = plan.optimizer(
        task.make_discriminator(),
        partial(discriminator_rule, study, 1),
        Keystream(),
        physical_batch=study.training.physical_batch,
        precision=study.training.precision,
    )
    fakes, fake_labels = torch.rand(study.training.batch, *shape), torch.zeros(study.training.batch).long()
    free = partial(mean_fake_loss, task, fakes, fake_labels)

    def step() -> None:
        optimizer.step(task.real_loss, images, labels, owner, free)

    step()  # the first one warms up
    count, began = 0, time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        step()
        count += 1
    return count / passed
