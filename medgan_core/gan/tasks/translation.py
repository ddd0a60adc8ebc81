"""Translation: a U-Net draws the second modality from the first, with pairs (pix2pix) or without (CycleGAN).

Private networks: all of them, both generators and both discriminators of a CycleGAN too. Every fake is made
of a patient's image, so adversarial, pixel, cycle and identity terms are one clipped gradient over all
networks.

A site's images have two channels, registered to each other: where they come from and where they go. Isola et
al. 2017, https://arxiv.org/abs/1611.07004, section 3; Zhu et al. 2017, https://arxiv.org/abs/1703.10593,
section 3. Without pairs no term compares an image with its own counterpart.
"""

from torch import Tensor, nn

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.adversaries import adversarial_terms, mean_of
from medgan_core.gan.losses import LOSSES, AdversarialLoss
from medgan_core.gan.mappers import Mapper, PatchDiscriminator, beside, fold_of
from medgan_core.gan.scores import body_of, scores_in
from medgan_core.gan.task import ImageShape, Panels, PatientLoss, PatientTask

_IDENTITY = 0.5
"""How much the identity term counts beside the cycle: Zhu et al. 2017, section 5.2."""


def translation(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> PatientTask:
    """The translation of the first channel into the second."""
    loss, width = LOSSES[training.loss], training.discriminator_width
    fold = fold_of(image_shape)

    def mapper() -> nn.Module:
        return Mapper(1, 1, mapping.width, residual=True, fold=fold)

    def make_generator() -> nn.Module:
        return mapper() if mapping.paired else nn.ModuleDict({"forth": mapper(), "back": mapper()})

    def make_discriminator() -> nn.Module:
        if mapping.paired:
            return PatchDiscriminator(2, width)
        return nn.ModuleDict({end: PatchDiscriminator(1, width) for end in ("source", "target")})

    def paired(networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor) -> Tensor:
        source, target = rows[:, :1], rows[:, 1:]
        made = networks["generator"](source)
        pairs = (beside(source, target), beside(source, made))
        terms = adversarial_terms(
            loss, networks["discriminator"], frozen["discriminator"], *pairs, mapping.adversarial_weight
        )
        return mapping.pixel_weight * mean_of((made - target).abs()) + terms

    def apply(generator: nn.Module, inputs: Tensor) -> Tensor:
        """The other modality of images [b, 1, h, w]."""
        forth = generator if mapping.paired else generator.get_submodule("forth")
        made: Tensor = forth(inputs)
        return made.clamp(-1, 1)

    def scores(generator: nn.Module, rows: Tensor) -> Tensor:
        source, target = rows[:, :1], rows[:, 1:]
        return scores_in(body_of(source, target), apply(generator, source), target)

    def panels(generator: nn.Module, rows: Tensor) -> Panels:
        source, target = rows[:, :1], rows[:, 1:]
        made = apply(generator, source)
        return (
            ("input", source),
            ("made", made),
            ("reference", target),
            ("difference", (made - target).abs() - 1),
        )

    return PatientTask(
        name="translation",
        image_shape=image_shape,
        classes=classes,
        private_networks=frozenset({"generator", "discriminator"}),
        make_generator=make_generator,
        make_discriminator=make_discriminator,
        prepare=lambda images, random: images,
        patient_loss=paired if mapping.paired else _unpaired(loss, mapping),
        free_loss=None,
        scores=scores,
        apply=apply,
        panels=panels,
    )


def _unpaired(loss: AdversarialLoss, mapping: MappingConfig) -> PatientLoss:
    """The terms of a CycleGAN, both ways."""

    def unpaired(networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor) -> Tensor:
        ends = {"source": rows[:, :1], "target": rows[:, 1:]}
        forth, back = (networks["generator"].get_submodule(way) for way in ("forth", "back"))
        total = rows.new_zeros(len(rows))
        for there, again, start, end in (
            (forth, back, "source", "target"),
            (back, forth, "target", "source"),
        ):
            made = there(ends[start])
            total = total + adversarial_terms(
                loss,
                networks["discriminator"].get_submodule(end),
                frozen["discriminator"].get_submodule(end),
                ends[end],
                made,
                mapping.adversarial_weight,
            )
            cycle = mean_of((again(made) - ends[start]).abs())
            same = mean_of((there(ends[end]) - ends[end]).abs())
            total = total + mapping.cycle_weight * mapping.pixel_weight * (cycle + _IDENTITY * same)
        return total

    return unpaired
