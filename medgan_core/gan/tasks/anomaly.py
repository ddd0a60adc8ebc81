"""Anomaly detection: what a GAN of normal images, and an encoder for it, cannot draw again is abnormal.

Private networks: the discriminator, which sees patients' images, and the encoder, which learns to find the
latent that draws them. The decoder is free: it learns from fakes drawn from noise alone, and the engine gives
it no gradient of a patient. A patient's real term and reconstruction are one clipped gradient over both.

f-AnoGAN, Schlegl et al. 2019, https://doi.org/10.1016/j.media.2019.01.010: the encoder learns by their
izi_f loss (eq. 4), image residual and residual of the discriminator's features, and on fakes, which cost
nothing, by their ziz loss (eq. 2): it is to find the latent that a fake was drawn from. GAN and encoder learn
at the same time, not one after the other.

The score is a residual of features (the second term of eq. 5), but not of the discriminator's, so that a
release holds none: of logarithms of Gabor magnitudes, which no data taught. They see texture, whatever the
contrast of an image.

With `mapping.adversarial_weight = 0` it is the plain autoencoder, whose decoder learns from patients too.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.errors import ConfigError
from medgan_core.gabor import magnitude_maps
from medgan_core.gan.adversaries import mean_of
from medgan_core.gan.coders import Decoder, Encoder
from medgan_core.gan.losses import LOSSES
from medgan_core.gan.task import ImageShape, Panels, PatientTask

_KAPPA = 1.0
"""How much the residual of features counts beside that of pixels, as in the paper."""
_FAINT = 0.02
"""A magnitude of Gabor filters that hardly counts: a flat part has no texture to compare."""
MIDDLE, SHARPNESS = 0.3, 4.0
"""The mean squared residual that is told as a probability of .5, and log-odds for each unit of its logarithm.

Public constants: one bin of the sites' histogram is a quarter of a unit, so that its 20 bins reach from a
twelfth of the middle to the twelvefold. The probability orders images; it is not calibrated."""


def anomaly(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> PatientTask:
    """The detection of images that are not of the class `mapping.normal`."""
    channels, size, _ = image_shape
    loss, latent_size, adversarial = (
        LOSSES[training.loss],
        training.latent_size,
        mapping.adversarial_weight > 0,
    )

    def make_generator() -> nn.Module:
        return nn.ModuleDict(
            {
                "encoder": Encoder(channels, size, latent_size, mapping.width, norm=True),
                "decoder": Decoder(latent_size, channels, size, mapping.width),
            }
        )

    def patient_loss(networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor) -> Tensor:
        generator, judge = networks["generator"], frozen["discriminator"]
        again = _again(generator, rows)
        pixels = mapping.pixel_weight * mean_of((rows - again).square())
        if not adversarial:
            return pixels
        features = mean_of((_features(judge, rows) - _features(judge, again)).square())
        return loss.real(networks["discriminator"](rows).squeeze(1)) + pixels + _KAPPA * features

    def free_loss(networks: nn.ModuleDict, frozen: nn.ModuleDict, random: torch.Generator) -> Tensor:
        encoder, decoder = (networks["generator"].get_submodule(part) for part in ("encoder", "decoder"))
        latent = torch.randn(training.batch, latent_size, generator=random)
        latent = latent.to(next(decoder.parameters()).device)
        fakes = decoder(latent)
        own = loss.fake(networks["discriminator"](fakes.detach())).mean()
        back = (encoder(fakes.detach()) - latent).square().mean()
        total: Tensor = own + loss.generator(frozen["discriminator"](fakes)).mean() + back
        return total

    def apply(generator: nn.Module, images: Tensor) -> Tensor:
        """Where images [b, c, h, w] are abnormal: [b, 1, h, w], from -1 to 1."""
        residual = interpolate(_residual(generator, images), images.shape[2:], mode="bilinear")
        return 2 * residual / (residual + MIDDLE) - 1

    def scores(generator: nn.Module, rows: Tensor) -> Tensor:
        residual = mean_of(_residual(generator, rows).double())
        return torch.sigmoid(SHARPNESS * torch.log(residual.clamp_min(1e-12) / MIDDLE))[:, None]

    def panels(generator: nn.Module, rows: Tensor) -> Panels:
        found = (
            ("image", rows),
            ("drawn again", _again(generator, rows)),
            ("residual", apply(generator, rows)),
        )
        return tuple((name, part.detach()) for name, part in found)

    return PatientTask(
        name="anomaly",
        image_shape=image_shape,
        classes=classes,
        private_networks=frozenset({"generator", "discriminator"}),
        make_generator=make_generator,
        make_discriminator=lambda: Encoder(channels, size, 1, training.discriminator_width, norm=False),
        prepare=lambda images, random: images,
        patient_loss=patient_loss,
        free_loss=free_loss if adversarial else None,
        scores=scores,
        apply=apply,
        panels=panels,
        trains_on=(_normal(mapping, classes),),
        free_parts=("generator.decoder",) if adversarial else (),
    )


def _again(generator: nn.Module, images: Tensor) -> Tensor:
    """What the decoder draws from the latents that the encoder finds."""
    drawn: Tensor = generator.get_submodule("decoder")(generator.get_submodule("encoder")(images))
    return drawn


def _residual(generator: nn.Module, images: Tensor) -> Tensor:
    """How far texture is from what can be drawn, [b, c, h, w] to [b, 1, h/4, w/4]."""
    seen, drawn = _textures(images), _textures(_again(generator, images))
    return (seen - drawn).square().mean(1, keepdim=True)


def _textures(images: Tensor) -> Tensor:
    """Logarithms of the Gabor magnitudes of each channel, [b, 16 c, h/4, w/4]."""
    maps = magnitude_maps((images.flatten(0, 1)[:, None] + 1) / 2)
    return torch.log(maps + _FAINT).reshape(-1, images.shape[1] * maps.shape[1], *maps.shape[2:])


def _features(discriminator: nn.Module, images: Tensor) -> Tensor:
    return cast(Encoder, discriminator).features(images)


def _normal(mapping: MappingConfig, classes: tuple[str, ...]) -> int:
    """The label of the normal class. ConfigError where there is no such class, or no other."""
    if len(classes) < 2:
        raise ConfigError("data.classes", classes, "normal and another class to judge detection by")
    if mapping.normal and mapping.normal not in classes:
        raise ConfigError("mapping.normal", mapping.normal, f"one of {', '.join(classes)}")
    return classes.index(mapping.normal) if mapping.normal else 0
