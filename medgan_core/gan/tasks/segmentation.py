"""Segmentation: a U-Net draws the mask of an image, a discriminator judges image and mask pixel by pixel.

Private networks: both. The generator sees a patient's image, so its mask is as private as the image is; all
terms are one clipped gradient over both networks.

A site's images have the mask as their last channel, 1 inside and -1 outside. After Luc et al. 2016,
https://arxiv.org/abs/1611.08408; the distance to the reference is soft Dice (Milletari et al. 2016,
https://arxiv.org/abs/1606.04797, section 3) and cross-entropy.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.adversaries import adversarial_terms, mean_of
from medgan_core.gan.losses import LOSSES, AdversarialLoss
from medgan_core.gan.mappers import Mapper, PixelDiscriminator, beside, fold_of
from medgan_core.gan.scores import mask_scores
from medgan_core.gan.task import ImageShape, Panels, PatientTask


def segmentation(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> PatientTask:
    """The segmentation of images with a mask as their last channel."""
    channels, fold = image_shape[0] - 1, fold_of(image_shape)
    course = _Segmentation(mapping, LOSSES[training.loss], channels)
    return PatientTask(
        name="segmentation",
        image_shape=image_shape,
        classes=classes,
        private_networks=frozenset({"generator", "discriminator"}),
        make_generator=lambda: Mapper(channels, 1, mapping.width, fold=fold),
        make_discriminator=lambda: PixelDiscriminator(channels + 1, training.discriminator_width, fold=fold),
        prepare=lambda images, random: images,
        patient_loss=course.patient_loss,
        free_loss=None,
        scores=course.scores,
        apply=course.apply,
        panels=course.panels,
    )


@dataclass(frozen=True, eq=False)
class _Segmentation:
    """What the task does with rows [b, c + 1, h, w]: an image and its mask."""

    mapping: MappingConfig
    loss: AdversarialLoss
    channels: int

    def patient_loss(
        self, networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor
    ) -> Tensor:
        """Soft Dice, cross-entropy and the adversarial terms of both networks, [b]."""
        images, masks = self._parts(rows)
        logits, weight = networks["generator"](images), self.mapping.adversarial_weight
        pixels = self.mapping.pixel_weight * (soft_dice(logits, masks) + mean_of(softplus(-masks * logits)))
        if weight == 0:
            return pixels
        pairs = (beside(images, masks), beside(images, torch.tanh(logits / 2)))
        return pixels + adversarial_terms(
            self.loss, networks["discriminator"], frozen["discriminator"], *pairs, weight
        )

    def apply(self, generator: nn.Module, images: Tensor) -> Tensor:
        """The probability that a pixel is inside, from -1 to 1."""
        made: Tensor = torch.tanh(generator(images) / 2)
        return made

    def scores(self, generator: nn.Module, rows: Tensor) -> Tensor:
        """As `mask_scores`, of what is found by a probability above a half."""
        images, masks = self._parts(rows)
        return mask_scores(self.apply(generator, images) > 0, masks > 0)

    def panels(self, generator: nn.Module, rows: Tensor) -> Panels:
        """Images, masks found and real, and where these differ."""
        images, masks = self._parts(rows)
        found = self.apply(generator, images).sign()
        return (
            ("image", images),
            ("found", found),
            ("reference", masks),
            ("wrong", (found - masks).abs() - 1),
        )

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows[:, : self.channels], rows[:, self.channels :]


def soft_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice of probabilities and masks in {-1, 1}, [b]; 1 pixel is added so that an empty mask counts."""
    inside, wanted = torch.sigmoid(logits).flatten(1), (masks.flatten(1) + 1) / 2
    return 1 - (2 * (inside * wanted).sum(1) + 1) / (inside.sum(1) + wanted.sum(1) + 1)
