"""Tiny tasks for the tests of networks, losses and steps."""

from typing import Any

import torch
from torch import nn

from medgan_core.config import IMAGE_SIZES, MappingConfig, TrainingConfig
from medgan_core.gan.task import GanTask, SynthesisTask, synthesis_of
from medgan_core.gan.tasks import TASKS
from medgan_core.tensors import seeded

SIZES = [(channels, size) for size in IMAGE_SIZES for channels in (1, 3)]
CLASSES = ("normal", "pneumonia", "other")


def make(name: str = "synthesis", channels: int = 1, size: int = 28, **training: Any) -> SynthesisTask:
    asked = TrainingConfig(**{"latent_size": 4, "generator_width": 4, "discriminator_width": 4} | training)
    return synthesis_of(TASKS[name](asked, MappingConfig(), (channels, size, size), CLASSES))


def networks(task: GanTask, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    return seeded(task.make_generator, seed), seeded(task.make_discriminator, seed + 1)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(task: GanTask, count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *task.image_shape, generator=random(seed)) * 2 - 1
