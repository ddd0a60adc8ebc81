"""Label-conditional synthesis: a generator draws images of a class from noise.

Private networks: the discriminator alone. Its fakes are drawn from latent noise and public labels by weights
that are private already, so they cost nothing; only the real term touches patients.
"""

import torch
from torch import Tensor, nn

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.losses import LOSSES
from medgan_core.gan.networks import Discriminator, Generator, size_of_latent
from medgan_core.gan.task import ImageShape, SynthesisTask
from medgan_core.precision import halves


def synthesis(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> SynthesisTask:
    """The conditional DCGAN family of a study; images are square. `mapping` has no say in it."""
    channels, size, _ = image_shape
    loss, noise = LOSSES[training.loss], training.spatial_noise
    latent_size = size_of_latent(training.latent_size, size, noise)

    def make_generator() -> nn.Module:
        width = training.generator_width
        made = Generator(len(classes), channels, size, training.latent_size, width, noise)
        # A quarter faster on a CPU in this memory format, with the same images; torch's types do not know it.
        return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def sample(generator: nn.Module, labels: Tensor, random: torch.Generator) -> Tensor:
        latent = torch.randn(len(labels), latent_size, generator=random).to(labels.device)
        half = generator.training and halves(training.precision, latent.device)
        with torch.autocast(latent.device.type, torch.bfloat16, enabled=half):
            images: Tensor = generator(latent, labels)
        return images.float()

    return SynthesisTask(
        name="synthesis",
        image_shape=image_shape,
        classes=classes,
        private_networks=frozenset({"discriminator"}),
        make_generator=make_generator,
        make_discriminator=lambda: Discriminator(len(classes), channels, size, training.discriminator_width),
        real_loss=lambda network, images, labels: loss.real(network(images, labels)),
        fake_loss=lambda network, fakes, labels: loss.fake(network(fakes, labels)),
        generator_loss=lambda network, fakes, labels: loss.generator(network(fakes, labels)),
        rejects=lambda network, fakes, labels: network(fakes, labels) < loss.boundary,
        sample=sample,
        latent_size=latent_size,
    )
