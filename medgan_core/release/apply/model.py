"""A release as a function from what a file shows to what is made of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from medgan_core.errors import DataError, InputError, ReleaseError
from medgan_core.gan.task import PatientTask
from medgan_core.release.apply.damage import Damage
from medgan_core.release.apply.pictures import Made, Origin, Pictures
from medgan_core.release.apply.views import (
    seen_at_spacing,
    seen_in_proportion,
    seen_in_tiles,
    seen_whole,
    view_of,
    with_holes,
)
from medgan_core.release.bundle import Release
from medgan_core.release.purposes import Command, Purpose, check_command, input_channels

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in data.transforms
_WORDS: dict[str, str] = {
    "segmentation": "segmented",
    "restoration": "restored",
    "translation": "translated",
    "anomaly": "searched for anomalies",
}


@dataclass(frozen=True, eq=False)
class Model:
    """The network of a release on a device, with what it needs to know of its training."""

    release: Release
    device: torch.device
    damage: Damage | None = None
    label: str = ""
    code: tuple[str, str, str] | None = None
    _task: PatientTask = field(init=False)
    _network: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        data = self.release.study.data
        if data.depth or data.stack > 1:
            raise InputError(
                f"{self.release.study.name} was trained on {'volumes' if data.depth else 'stacks'}: "
                "expected one of single slices"
            )
        object.__setattr__(self, "_task", self.release.task())
        object.__setattr__(self, "_network", self.release.generator().to(self.device))

    @property
    def purpose(self) -> Purpose:
        """The task that it was trained for."""
        return cast(Purpose, self.release.facts.task)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The registered volumes that it takes, by name; () where it was trained on plain images."""
        names = self.release.study.data.modalities
        return names[:1] if self.purpose == "translation" else names

    @property
    def colours(self) -> int:
        """How many channels of an image it takes."""
        channels = input_channels(self.purpose, self.release.facts.image_shape)
        return channels - 1 if self.purpose == "restoration" else channels

    def origin(self) -> Origin:
        """What made its outputs."""
        card, words = self.release.card, _WORDS[self.purpose]
        return Origin(
            study=card.study,
            model=card.generator_sha256,
            version=str(card.environment.get("packages", {}).get("medgan-federated", "unknown")),
            words=f"{words}, {self.damage.words()}" if self.damage else words,
            label=self.label or card.study,
            code=self.code,
        )

    @torch.no_grad()
    def make(self, pictures: Pictures) -> Made:
        """What is made of a file's images. Raises DataError where they do not fit the network."""
        images = self._fitted(pictures)
        holes = self.damage.holes_of(pictures.images) if self.damage else None
        if holes is None:
            outputs = self._seen(self.damage.inputs(images) if self.damage else images, pictures)
        else:
            each = holes.repeat_interleave(len(images) // len(holes), 0)
            made = with_holes(self._network_on, images, each, self.release.facts.image_shape[1])
            outputs = torch.where(each[:, None], made, images)  # what is there stays as it is
        if not outputs.isfinite().all():
            raise ReleaseError("generator.safetensors: the network makes values that are not finite")
        return Made(
            self.purpose,
            self._as_in_file(outputs, pictures),
            self.origin(),
            self._scores(images) if self.purpose == "anomaly" else None,
            self.damage.factor if self.damage else 1,
            holes,
        )

    def _fitted(self, pictures: Pictures) -> Tensor:
        """Images with as many channels as the network takes; restoration takes one colour after the other."""
        images, wanted = pictures.images, self.colours
        found = images.shape[1]
        if found == wanted:
            return images
        if len(self.modalities) > 1 or pictures.modalities:
            names = ", ".join(self.modalities) or f"{wanted} channels"
            raise DataError(
                f"shows {found} of what is needed: {names}, as registered NIfTI files of one study"
            )
        if wanted == 3:
            return images.repeat(1, 3, 1, 1)
        if self.purpose == "restoration":
            return images.flatten(0, 1)[:, None]
        return (images * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)

    def _as_in_file(self, outputs: Tensor, pictures: Pictures) -> Tensor:
        """Outputs with the channels of the file's images; masks and heat maps have one."""
        found = pictures.images.shape[1]
        if self.purpose in ("segmentation", "anomaly"):
            return outputs[:, :1]
        if len(outputs) > len(pictures.images):
            return outputs.view(-1, found, *outputs.shape[2:])
        if outputs.shape[1] == 1:
            return outputs.expand(-1, found, -1, -1)
        return outputs if outputs.shape[1] == found else outputs.mean(1, keepdim=True)

    def _seen(self, inputs: Tensor, pictures: Pictures) -> Tensor:
        """The network's outputs, each as large as its input."""
        data, side = self.release.study.data, self.release.facts.image_shape[1]
        view = view_of(self.purpose, data.kind, data.spacing)
        if view == "tiles":
            return seen_in_tiles(self._network_on, inputs, side)
        if view == "proportions":
            return seen_in_proportion(self._network_on, inputs, side, pictures.spacing)
        if view == "spacing" and pictures.spacing:
            return seen_at_spacing(self._network_on, inputs, side, pictures.spacing, data.spacing)
        return seen_whole(self._network_on, inputs, side)

    def _network_on(self, inputs: Tensor) -> Tensor:
        return self._task.apply(self._network, inputs.to(self.device).float()).float().cpu()

    def _scores(self, images: Tensor) -> Tensor:
        """How sure it is that an image is abnormal, [n] in [0, 1]."""
        side = self.release.facts.image_shape[1]

        def scored(inputs: Tensor) -> Tensor:
            found = self._task.scores(self._network, inputs.to(self.device)).float().cpu()
            return found[:, :1, None, None].expand(-1, 1, side, side)

        return seen_whole(scored, images, side)[:, 0, 0, 0]


def opened(folder: Path, command: Command) -> Release:
    """A release that is for this command. Raises InputError that says for which it is."""
    release = Release.open(folder)
    check_command(release.facts.task, command)
    return release
