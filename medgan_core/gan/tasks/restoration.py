"""Restoration: a U-Net undoes noise, blur, holes or low resolution; a patch discriminator judges the result.

Private networks: both. What the generator is given is a patient's image, spoiled on the fly, so all terms are
one clipped gradient over both networks. After Isola et al. 2017, https://arxiv.org/abs/1611.07004, section
3.1: L1 and an adversarial term; the generator learns the difference to a first guess.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.adversaries import adversarial_terms, mean_of
from medgan_core.gan.corruptions import CORRUPTIONS
from medgan_core.gan.guesses import GUESSES, holes_of
from medgan_core.gan.losses import LOSSES, AdversarialLoss
from medgan_core.gan.mappers import Mapper, PatchDiscriminator, beside, fold_of
from medgan_core.gan.scores import psnr_share, squared_error, ssim
from medgan_core.gan.task import ImageShape, Panels, PatientTask


def restoration(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> PatientTask:
    """The restoration of images from the corruption that `mapping` names."""
    channels, fold = image_shape[0], fold_of(image_shape)
    course = _Restoration(mapping, LOSSES[training.loss], channels)
    return PatientTask(
        name="restoration",
        image_shape=image_shape,
        classes=classes,
        private_networks=frozenset({"generator", "discriminator"}),
        make_generator=lambda: Mapper(channels + 1, channels, mapping.width, residual=True, fold=fold),
        make_discriminator=lambda: PatchDiscriminator(2 * channels + 1, training.discriminator_width),
        prepare=course.prepare,
        patient_loss=course.patient_loss,
        free_loss=None,
        scores=course.scores,
        apply=course.apply,
        panels=course.panels,
    )


@dataclass(frozen=True, eq=False)
class _Restoration:
    """What the task does with rows [b, 2c + 1, h, w]: a spoiled image, the code of how, the image itself."""

    mapping: MappingConfig
    loss: AdversarialLoss
    channels: int

    def prepare(self, images: Tensor, random: torch.Generator) -> Tensor:
        """The rows of a site's images."""
        corrupt = CORRUPTIONS[self.mapping.corruption]
        return torch.stack([torch.cat([*corrupt(image, random), image]) for image in images])

    def patient_loss(
        self, networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor
    ) -> Tensor:
        """L1 and the adversarial terms of both networks, [b]."""
        inputs, images = self._parts(rows)
        restored, weight = self._restored(networks["generator"], inputs), self.mapping.adversarial_weight
        pixels = self.mapping.pixel_weight * mean_of((restored - images).abs())
        if weight == 0:
            return pixels
        pairs = (beside(inputs, images), beside(inputs, restored))
        return pixels + adversarial_terms(
            self.loss, networks["discriminator"], frozen["discriminator"], *pairs, weight
        )

    def apply(self, generator: nn.Module, inputs: Tensor) -> Tensor:
        """Images from spoiled ones with their code, [b, c + 1, h, w]."""
        return self._restored(generator, inputs).clamp(-1, 1)

    def scores(self, generator: nn.Module, rows: Tensor) -> Tensor:
        """Share of the PSNR, SSIM and squared error, [b, 3]."""
        inputs, images = self._parts(rows)
        restored = self.apply(generator, inputs)
        return torch.stack([part(restored, images) for part in (psnr_share, ssim, squared_error)], dim=1)

    def panels(self, generator: nn.Module, rows: Tensor) -> Panels:
        """Spoiled, restored and real images, and how far apart the last two are."""
        inputs, images = self._parts(rows)
        restored = self.apply(generator, inputs)
        return (
            ("input", inputs[:, : self.channels]),
            ("restored", restored),
            ("reference", images),
            ("difference", (restored - images).abs() - 1),
        )

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows[:, : self.channels + 1], rows[:, self.channels + 1 :]

    def _restored(self, generator: nn.Module, inputs: Tensor) -> Tensor:
        """What the generator makes of a first guess; around holes nothing changes."""
        spoiled, code = inputs[:, : self.channels], inputs[:, self.channels :]
        guess = GUESSES.get(self.mapping.corruption)
        guessed = guess(spoiled, code) if guess else spoiled
        made, holes = generator(beside(guessed, code)), holes_of(code)
        return torch.where(holes.flatten(1).any(1)[:, None, None, None] & ~holes, spoiled, made)
