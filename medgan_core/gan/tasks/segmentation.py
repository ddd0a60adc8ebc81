"""Segmentation: a U-Net draws the mask of an image, a discriminator judges image and mask pixel by pixel.

Private networks: both. The generator sees a patient's image, so its mask is as private as the image is; all
terms are one clipped gradient over both networks.

A site's images have the mask as their last channel, 1 inside and -1 outside. After Luc et al. 2016,
https://arxiv.org/abs/1611.08408; the distance to the reference is soft Dice (Milletari et al. 2016,
https://arxiv.org/abs/1606.04797, section 3) and cross-entropy.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.adversaries import adversarial_terms, mean_of
from medgan_core.gan.losses import LOSSES
from medgan_core.gan.mappers import Mapper, PixelDiscriminator, beside, fold_of
from medgan_core.gan.scores import mask_scores
from medgan_core.gan.task import ImageShape, Panels, PatientTask


def segmentation(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> PatientTask:
    """The segmentation of images with a mask as their last channel."""
    channels, loss, fold = image_shape[0] - 1, LOSSES[training.loss], fold_of(image_shape)

    def apply(generator: nn.Module, images: Tensor) -> Tensor:
        """The probability that a pixel is inside, from -1 to 1."""
        made: Tensor = torch.tanh(generator(images) / 2)
        return made

    def patient_loss(networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor) -> Tensor:
        images, masks = rows[:, :channels], rows[:, channels:]
        logits = networks["generator"](images)
        pixels = mapping.pixel_weight * (soft_dice(logits, masks) + mean_of(softplus(-masks * logits)))
        fakes, weight = torch.tanh(logits / 2), mapping.adversarial_weight
        if weight == 0:
            return pixels
        pairs = (beside(images, masks), beside(images, fakes))
        return pixels + adversarial_terms(
            loss, networks["discriminator"], frozen["discriminator"], *pairs, weight
        )

    def scores(generator: nn.Module, rows: Tensor) -> Tensor:
        return mask_scores(apply(generator, rows[:, :channels]) > 0, rows[:, channels:] > 0)

    def panels(generator: nn.Module, rows: Tensor) -> Panels:
        images, masks = rows[:, :channels], rows[:, channels:]
        found = apply(generator, images).sign()
        return (
            ("image", images),
            ("found", found),
            ("reference", masks),
            ("wrong", (found - masks).abs() - 1),
        )

    return PatientTask(
        name="segmentation",
        image_shape=image_shape,
        classes=classes,
        private_networks=frozenset({"generator", "discriminator"}),
        make_generator=lambda: Mapper(channels, 1, mapping.width, fold=fold),
        make_discriminator=lambda: PixelDiscriminator(channels + 1, training.discriminator_width, fold=fold),
        prepare=lambda images, random: images,
        patient_loss=patient_loss,
        free_loss=None,
        scores=scores,
        apply=apply,
        panels=panels,
    )


def soft_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice of probabilities and masks in {-1, 1}, [b]; 1 pixel is added so that an empty mask counts."""
    inside, wanted = torch.sigmoid(logits).flatten(1), (masks.flatten(1) + 1) / 2
    return 1 - (2 * (inside * wanted).sum(1) + 1) / (inside.sum(1) + wanted.sum(1) + 1)
