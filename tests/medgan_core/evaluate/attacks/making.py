"""Small generators that remember their members, or never saw anybody, and the images of both."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn, optim

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.networks import calibrate
from medgan_core.gan.task import PatientTask, SynthesisTask, synthesis_of
from medgan_core.gan.tasks import TASKS
from medgan_core.seeds import Seeds
from medgan_core.tensors import seeded
from tests.medgan_core.evaluate.shapes import shapes

SEEDS = Seeds(5)
CPU = torch.device("cpu")
CLASSES = ("tall", "wide")
MEMBERS = 60


def task_of(side: int = 28, channels: int = 1, width: int = 8) -> SynthesisTask:
    asked = TrainingConfig(
        latent_size=16, generator_width=width, discriminator_width=16, spatial_noise=0.0, precision="float32"
    )
    return synthesis_of(TASKS["synthesis"](asked, MappingConfig(), (channels, side, side), CLASSES))


def patient_task(name: str) -> PatientTask:
    asked = TrainingConfig(discriminator_width=4, latent_size=8)
    weight = 0.01 if name == "segmentation" else 0.1
    channels = 2 if name in ("segmentation", "translation") else 1
    mapping = MappingConfig(width=8, adversarial_weight=weight)
    task = TASKS[name](asked, mapping, (channels, 32, 32), CLASSES)
    assert isinstance(task, PatientTask)
    return task


def generator_of(task: SynthesisTask, seed: int = 0) -> nn.Module:
    """One that has learnt nothing."""
    made = seeded(task.make_generator, seed)
    random = torch.Generator().manual_seed(seed)
    calibrate(made, torch.randn(64, task.latent_size, generator=random), torch.arange(64) % 2)
    return made


def by_heart(task: SynthesisTask, images: Tensor, labels: Tensor, steps: int = 300) -> nn.Module:
    """A generator that draws these images, whichever latent it is given."""
    made, random = seeded(task.make_generator, 1), torch.Generator().manual_seed(1)
    rule = optim.Adam(made.parameters(), 5e-3, betas=(0.5, 0.999))
    anchors = torch.randn(len(images), task.latent_size, generator=random)
    for _ in range(steps):
        chosen = torch.randint(len(images), (32,), generator=random)
        latent = (anchors[chosen] + 0.5 * torch.randn(32, task.latent_size, generator=random)) / 1.25**0.5
        loss = (made(latent, labels[chosen]) - images[chosen]).square().mean()
        rule.zero_grad()
        loss.backward()
        rule.step()
    random = torch.Generator().manual_seed(2)
    calibrate(made, torch.randn(256, task.latent_size, generator=random), torch.arange(256) % 2)
    return made


def judge_of(task: SynthesisTask, images: Tensor, labels: Tensor, steps: int = 150) -> nn.Module:
    """A discriminator that knows these images from others of the same kind."""
    made, random = seeded(task.make_discriminator, 1), torch.Generator().manual_seed(3)
    rule = optim.Adam(made.parameters(), 2e-3, betas=(0.5, 0.999))
    for step in range(steps):
        others, of_others = shapes(32, 100 + step)
        chosen = torch.randint(len(images), (32,), generator=random)
        real = task.real_loss(made, images[chosen], labels[chosen])
        loss = (real + task.fake_loss(made, others, of_others)).mean()
        rule.zero_grad()
        loss.backward()
        rule.step()
    return made


def patients(*seeds: int, count: int = MEMBERS) -> Sequence[tuple[Tensor, Tensor]]:
    """Images and labels of so many patients with one image each, one set for each seed."""
    return [shapes(count, seed) for seed in seeds]
