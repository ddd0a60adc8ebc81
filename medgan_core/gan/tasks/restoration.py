"""Restoration: a U-Net undoes noise, blur, holes or low resolution; a patch discriminator judges the result.

Private networks: both. What the generator is given is a patient's image, spoiled on the fly, so all terms are
one clipped gradient over both networks. After Isola et al. 2017, https://arxiv.org/abs/1611.07004, section
3.1: L1 and an adversarial term; the generator learns the difference to a first guess.
"""

import torch
from torch import Tensor, nn

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.adversaries import adversarial_terms, mean_of
from medgan_core.gan.corruptions import CORRUPTIONS
from medgan_core.gan.guesses import GUESSES, holes_of
from medgan_core.gan.losses import LOSSES
from medgan_core.gan.mappers import Mapper, PatchDiscriminator, beside, fold_of
from medgan_core.gan.scores import psnr_share, squared_error, ssim
from medgan_core.gan.task import ImageShape, Panels, PatientTask


def restoration(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> PatientTask:
    """The restoration of images from the corruption that `mapping` names."""
    channels, loss, fold = image_shape[0], LOSSES[training.loss], fold_of(image_shape)
    corrupt = CORRUPTIONS[mapping.corruption]
    guess = GUESSES.get(mapping.corruption, lambda images, code: images)

    def prepare(images: Tensor, random: torch.Generator) -> Tensor:
        """The spoiled image, the code of how, and the image itself, in channels."""
        return torch.stack([torch.cat([*corrupt(image, random), image]) for image in images])

    def parts(rows: Tensor) -> tuple[Tensor, Tensor]:
        return rows[:, : channels + 1], rows[:, channels + 1 :]

    def restore(generator: nn.Module, inputs: Tensor) -> Tensor:
        """What the generator makes of a first guess; around holes nothing changes."""
        spoiled, code = inputs[:, :channels], inputs[:, channels:]
        holes = holes_of(code)
        made = generator(beside(guess(spoiled, code), code))
        return torch.where(holes.flatten(1).any(1)[:, None, None, None] & ~holes, spoiled, made)

    def apply(generator: nn.Module, inputs: Tensor) -> Tensor:
        """Images from spoiled ones with their code, [b, c + 1, h, w]."""
        return restore(generator, inputs).clamp(-1, 1)

    def patient_loss(networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor) -> Tensor:
        inputs, images = parts(rows)
        restored, weight = restore(networks["generator"], inputs), mapping.adversarial_weight
        pixels = mapping.pixel_weight * mean_of((restored - images).abs())
        if weight == 0:
            return pixels
        pairs = (beside(inputs, images), beside(inputs, restored))
        return pixels + adversarial_terms(
            loss, networks["discriminator"], frozen["discriminator"], *pairs, weight
        )

    def scores(generator: nn.Module, rows: Tensor) -> Tensor:
        inputs, images = parts(rows)
        restored = apply(generator, inputs)
        return torch.stack([part(restored, images) for part in (psnr_share, ssim, squared_error)], dim=1)

    def panels(generator: nn.Module, rows: Tensor) -> Panels:
        inputs, images = parts(rows)
        restored = apply(generator, inputs)
        return (
            ("input", inputs[:, :channels]),
            ("restored", restored),
            ("reference", images),
            ("difference", (restored - images).abs() - 1),
        )

    return PatientTask(
        name="restoration",
        image_shape=image_shape,
        classes=classes,
        private_networks=frozenset({"generator", "discriminator"}),
        make_generator=lambda: Mapper(channels + 1, channels, mapping.width, residual=True, fold=fold),
        make_discriminator=lambda: PatchDiscriminator(2 * channels + 1, training.discriminator_width),
        prepare=prepare,
        patient_loss=patient_loss,
        free_loss=None,
        scores=scores,
        apply=apply,
        panels=panels,
    )
