"""Volumes: a generator draws all slices of a volume from one latent, by 3-D convolutions.

Private networks: the discriminator alone, as in plain synthesis. Fakes are drawn from noise and public labels
by weights that are private already; only the real term touches patients.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.task import ImageShape, SynthesisTask
from medgan_core.gan.tasks.synthesis import synthesis
from medgan_core.gan.volumes import VolumeDiscriminator, VolumeGenerator
from medgan_core.precision import halves

_AT_ONCE = 8


def volume(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> SynthesisTask:
    """The synthesis of volumes whose slices lie in the channels. `mapping` has no say in it."""
    depth, side, _ = image_shape
    latent_size = training.latent_size

    def sample(generator: nn.Module, labels: Tensor, random: torch.Generator) -> Tensor:
        latent = torch.randn(len(labels), latent_size, generator=random).to(labels.device)
        half = generator.training and halves(training.precision, latent.device)
        with torch.autocast(latent.device.type, torch.bfloat16, enabled=half):
            # A few at once, for memory: volumes do not know of each other.
            parts = zip(latent.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True)
            volumes = torch.cat([generator(*part) for part in parts])
        return volumes.float()

    return replace(
        synthesis(training, mapping, image_shape, classes),
        name="volume",
        make_generator=lambda: VolumeGenerator(
            len(classes), depth, side, latent_size, training.generator_width
        ),
        make_discriminator=lambda: VolumeDiscriminator(
            len(classes), depth, side, training.discriminator_width
        ),
        sample=sample,
        latent_size=latent_size,
    )
