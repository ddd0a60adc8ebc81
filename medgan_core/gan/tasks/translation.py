"""Translation: a U-Net draws the second modality from the first, with pairs (pix2pix) or without (CycleGAN).

Private networks: all of them, both generators and both discriminators of a CycleGAN too. Every fake is made
of a patient's image, so adversarial, pixel, cycle and identity terms are one clipped gradient over all
networks.

A site's images have two channels, registered to each other: where they come from and where they go. Isola et
al. 2017, https://arxiv.org/abs/1611.07004, section 3; Zhu et al. 2017, https://arxiv.org/abs/1703.10593,
section 3. Without pairs no term compares an image with its own counterpart.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.adversaries import adversarial_terms, mean_of
from medgan_core.gan.losses import LOSSES, AdversarialLoss
from medgan_core.gan.mappers import Mapper, PatchDiscriminator, beside, fold_of
from medgan_core.gan.scores import body_of, scores_in
from medgan_core.gan.task import ImageShape, Panels, PatientTask

_IDENTITY = 0.5
"""How much the identity term counts beside the cycle: Zhu et al. 2017, section 5.2."""


def translation(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> PatientTask:
    """The translation of the first channel into the second."""
    width, fold = training.discriminator_width, fold_of(image_shape)
    course = _Translation(mapping, LOSSES[training.loss])

    def mapper() -> nn.Module:
        return Mapper(1, 1, mapping.width, residual=True, fold=fold)

    def make_generator() -> nn.Module:
        return mapper() if mapping.paired else nn.ModuleDict({"forth": mapper(), "back": mapper()})

    def make_discriminator() -> nn.Module:
        if mapping.paired:
            return PatchDiscriminator(2, width)
        return nn.ModuleDict({end: PatchDiscriminator(1, width) for end in ("source", "target")})

    return PatientTask(
        name="translation",
        image_shape=image_shape,
        classes=classes,
        private_networks=frozenset({"generator", "discriminator"}),
        make_generator=make_generator,
        make_discriminator=make_discriminator,
        prepare=lambda images, random: images,
        patient_loss=course.paired if mapping.paired else course.unpaired,
        free_loss=None,
        scores=course.scores,
        apply=course.apply,
        panels=course.panels,
    )


@dataclass(frozen=True, eq=False)
class _Translation:
    """What the task does with rows [b, 2, h, w]: an image and its counterpart in the other modality."""

    mapping: MappingConfig
    loss: AdversarialLoss

    def paired(self, networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor) -> Tensor:
        """L1 to the counterpart and the adversarial terms of both networks, [b]."""
        source, target = _ends(rows)
        made = networks["generator"](source)
        judges = networks["discriminator"], frozen["discriminator"]
        terms = self._adversarial(judges, beside(source, target), beside(source, made))
        return self.mapping.pixel_weight * mean_of((made - target).abs()) + terms

    def unpaired(
        self, networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor
    ) -> Tensor:
        """The terms of a CycleGAN, both ways, [b]."""
        source, target = _ends(rows)
        forth, back = (networks["generator"].get_submodule(way) for way in ("forth", "back"))
        ways = ((forth, back, source, target, "target"), (back, forth, target, source, "source"))
        total = rows.new_zeros(len(rows))
        for there, again, start, end, name in ways:
            made = there(start)
            judge, other = (each["discriminator"].get_submodule(name) for each in (networks, frozen))
            total = total + self._adversarial((judge, other), end, made)
            cycle, same = mean_of((again(made) - start).abs()), mean_of((there(end) - end).abs())
            total = total + self.mapping.cycle_weight * self.mapping.pixel_weight * (cycle + _IDENTITY * same)
        return total

    def _adversarial(self, judges: tuple[nn.Module, nn.Module], real: Tensor, made: Tensor) -> Tensor:
        """By a discriminator and its frozen copy, [b]."""
        return adversarial_terms(self.loss, *judges, real, made, self.mapping.adversarial_weight)

    def apply(self, generator: nn.Module, inputs: Tensor) -> Tensor:
        """The other modality of images [b, 1, h, w]."""
        forth = generator if self.mapping.paired else generator.get_submodule("forth")
        made: Tensor = forth(inputs)
        return made.clamp(-1, 1)

    def scores(self, generator: nn.Module, rows: Tensor) -> Tensor:
        """As `scores_in`, inside of the body."""
        source, target = _ends(rows)
        return scores_in(body_of(source, target), self.apply(generator, source), target)

    def panels(self, generator: nn.Module, rows: Tensor) -> Panels:
        """Sources, what is made of them, their counterparts, and how far apart the last two are."""
        source, target = _ends(rows)
        made = self.apply(generator, source)
        return (
            ("input", source),
            ("made", made),
            ("reference", target),
            ("difference", (made - target).abs() - 1),
        )


def _ends(rows: Tensor) -> tuple[Tensor, Tensor]:
    return rows[:, :1], rows[:, 1:]
