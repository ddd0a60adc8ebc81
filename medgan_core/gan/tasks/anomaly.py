"""Anomaly detection: what a GAN of normal images, and an encoder for it, cannot draw again is abnormal.

Private networks: the discriminator, which sees patients' images, and the encoder, which learns to find the
latent that draws them. The decoder is free: it learns from fakes drawn from noise alone, and the engine gives
it no gradient of a patient. A patient's real term and reconstruction are one clipped gradient over both.

f-AnoGAN, Schlegl et al. 2019, https://doi.org/10.1016/j.media.2019.01.010: the encoder learns by their
izi_f loss (eq. 4), image residual and residual of the discriminator's features, and on fakes, which cost
nothing, by their ziz loss (eq. 2): it is to find the latent that a fake was drawn from. GAN and encoder learn
at the same time, not one after the other.

The score is a residual of features (the second term of eq. 5), but not of the discriminator's, so that a
release holds none: `medgan_core.gan.residuals`.

With `mapping.adversarial_weight = 0` it is the plain autoencoder, whose decoder learns from patients too.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.errors import ConfigError
from medgan_core.gan.adversaries import mean_of
from medgan_core.gan.coders import Decoder, Encoder
from medgan_core.gan.losses import LOSSES, AdversarialLoss
from medgan_core.gan.residuals import abnormal_map, abnormal_probability
from medgan_core.gan.task import ImageShape, Panels, PatientTask

_KAPPA = 1.0
"""How much the residual of features counts beside that of pixels, as in the paper."""


def anomaly(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> PatientTask:
    """The detection of images that are not of the class `mapping.normal`."""
    channels, size, _ = image_shape
    course = _Anomaly(training, mapping, LOSSES[training.loss])

    def make_generator() -> nn.Module:
        encoder = Encoder(channels, size, training.latent_size, mapping.width, norm=True)
        decoder = Decoder(training.latent_size, channels, size, mapping.width)
        return nn.ModuleDict({"encoder": encoder, "decoder": decoder})

    return PatientTask(
        name="anomaly",
        image_shape=image_shape,
        classes=classes,
        private_networks=frozenset({"generator", "discriminator"}),
        make_generator=make_generator,
        make_discriminator=lambda: Encoder(channels, size, 1, training.discriminator_width, norm=False),
        prepare=lambda images, random: images,
        patient_loss=course.patient_loss,
        free_loss=course.free_loss if course.adversarial else None,
        scores=course.scores,
        apply=course.apply,
        panels=course.panels,
        trains_on=(_normal(mapping, classes),),
        free_parts=("generator.decoder",) if course.adversarial else (),
    )


@dataclass(frozen=True, eq=False)
class _Anomaly:
    """What the task does with images [b, c, h, w]."""

    training: TrainingConfig
    mapping: MappingConfig
    loss: AdversarialLoss

    @property
    def adversarial(self) -> bool:
        """Whether it is a GAN, and not the plain autoencoder."""
        return self.mapping.adversarial_weight > 0

    def patient_loss(
        self, networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor
    ) -> Tensor:
        """The discriminator's real term and the encoder's residuals, [b]."""
        judge, again = cast(Encoder, frozen["discriminator"]), _again(networks["generator"], rows)
        pixels = self.mapping.pixel_weight * mean_of((rows - again).square())
        if not self.adversarial:
            return pixels
        features = mean_of((judge.features(rows) - judge.features(again)).square())
        return self.loss.real(networks["discriminator"](rows).squeeze(1)) + pixels + _KAPPA * features

    def free_loss(self, networks: nn.ModuleDict, frozen: nn.ModuleDict, random: torch.Generator) -> Tensor:
        """The fake terms of discriminator and decoder, and how far the encoder is from the fakes' latents."""
        encoder, decoder = (networks["generator"].get_submodule(part) for part in ("encoder", "decoder"))
        latent = torch.randn(self.training.batch, self.training.latent_size, generator=random)
        latent = latent.to(next(decoder.parameters()).device)
        fakes = decoder(latent)
        own = self.loss.fake(networks["discriminator"](fakes.detach())).mean()
        back = (encoder(fakes.detach()) - latent).square().mean()
        total: Tensor = own + self.loss.generator(frozen["discriminator"](fakes)).mean() + back
        return total

    def apply(self, generator: nn.Module, images: Tensor) -> Tensor:
        """Where images are abnormal: [b, 1, h, w], from -1 to 1."""
        return abnormal_map(images, _again(generator, images))

    def scores(self, generator: nn.Module, rows: Tensor) -> Tensor:
        """The one probability that an image is abnormal, [b, 1]."""
        return abnormal_probability(rows, _again(generator, rows))[:, None]

    def panels(self, generator: nn.Module, rows: Tensor) -> Panels:
        """Images, what the decoder makes of them, and where these differ in texture."""
        again = _again(generator, rows).detach()
        return ("image", rows), ("drawn again", again), ("residual", abnormal_map(rows, again))


def _again(generator: nn.Module, images: Tensor) -> Tensor:
    """What the decoder draws from the latents that the encoder finds."""
    drawn: Tensor = generator.get_submodule("decoder")(generator.get_submodule("encoder")(images))
    return drawn


def _normal(mapping: MappingConfig, classes: tuple[str, ...]) -> int:
    """The label of the normal class. ConfigError where there is no such class, or no other."""
    if len(classes) < 2:
        raise ConfigError("data.classes", classes, "normal and another class to judge detection by")
    if mapping.normal and mapping.normal not in classes:
        raise ConfigError("mapping.normal", mapping.normal, f"one of {', '.join(classes)}")
    return classes.index(mapping.normal) if mapping.normal else 0
