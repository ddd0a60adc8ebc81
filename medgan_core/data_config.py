"""[data] of a study: where the images are, how they are read, and what lies in their channels."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from medgan_core.errors import ConfigError
from medgan_core.sections import SMALLEST_DEPTH, ReadingConfig

MASK = "mask"
"""The channel of a mask, whose values are -1 and 1."""
Names = Annotated[tuple[str, ...], Field(strict=False)]
_SAME_MODALITY = {"T1W": "T1", "T2W": "T2"}
_MODALITY = re.compile(r"[A-Za-z0-9]{1,32}")


def modality_of(name: str) -> str:
    """One name for a modality's several: capitals, and T1 for T1W."""
    upper = name.upper()
    return _SAME_MODALITY.get(upper, upper)


class DataConfig(ReadingConfig):
    """Where the images are and how they are read.

    `path`, `patients` and `labels` are looked for beside the study's data root, or are absolute. `patients`
    and `labels` name a CSV, or `CSV:column`. `classes` are the names of the labels 0, 1, … in their order.
    `views`: in how many variants (`flip`, `rotate_degrees`, `crop_pixels`) a step sees an image; the
    patient's gradient is the mean over all of them, so that they cost no privacy.

    `masks` are those of the images, which become their last channel: of a folder's a zip, a folder or
    `CSV:column` with the file of each; of NIfTI the name of a modality. `modalities` are the registered
    volumes of a NIfTI study that become the first channels. `channels` counts colours alone, and
    `image_channels` all. `hold_out` names the patients of a published set that are held out of training,
    and no others are.
    """

    kind: Literal["idx", "npz", "folder", "dicom", "nifti"]
    path: str
    patients: str = ""
    labels: str = ""
    masks: str = ""
    modalities: Names = ()
    classes: Names = ()
    image_size: Literal[28, 32, 64, 128] = 28
    channels: Literal[1, 3] = 1
    modality: str = "OT"
    split: Literal["hash", "official"] = "hash"
    hold_out: Names = ()
    flip: bool = False
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    crop_pixels: Annotated[int, Field(ge=0, le=32)] = 0
    views: Annotated[int, Field(ge=1, le=64)] = 1

    @property
    def varied(self) -> bool:
        """Whether training images are varied at all."""
        return bool(self.flip or self.rotate_degrees or self.crop_pixels)

    @property
    def image_channels(self) -> int:
        """How many channels an image has in all: colours, modalities or slices, and a mask."""
        return self.depth or (len(self.modalities) or self.channels) + bool(self.masks)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self.image_channels, int(self.image_size), int(self.image_size)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """What each channel shows; () for a plain image."""
        if self.depth:
            return tuple(f"slice {i}" for i in range(self.depth))
        plain = self.modalities or (("image",) if self.channels == 1 else ("red", "green", "blue"))
        if self.masks:
            return (*plain, MASK)
        return self.modalities

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        checks = (*self._of_kinds(), *self._of_volumes(), *self._of_names())
        for name, value, wrong, expected in checks:
            if wrong:
                raise ConfigError(f"data.{name}", value, expected)
        return self

    def _of_kinds(self) -> tuple[tuple[str, Any, bool, str], ...]:
        """(key, value, whether it is wrong, what is expected) of what not every kind of file has."""
        kind, where = self.kind, f"with data.kind = {self.kind}"
        nifti, many = kind == "nifti", len(self.classes) > 1
        needed = 'the names that the files end in, such as ["T1"], ' + where
        return (
            ("modalities", self.modalities, not nifti and bool(self.modalities), f"[] {where}"),
            ("modalities", self.modalities, nifti and not self.modalities, needed),
            ("masks", self.masks, bool(self.masks) and not nifti and kind != "folder", f'"" {where}'),
            ("channels", self.channels, nifti and self.channels != 1, f"1 {where}: data.modalities count"),
            ("classes", self.classes, nifti and many, f"one at most {where}: volumes have no labels"),
            ("patients", self.patients, nifti and bool(self.patients), f'"" {where}: files name patients'),
            ("labels", self.labels, nifti and bool(self.labels), f'"" {where}: all are of one class'),
        )

    def _of_volumes(self) -> tuple[tuple[str, Any, bool, str], ...]:
        deep, where = self.depth > 0, f"with data.depth = {self.depth}"
        readable = self.kind in ("nifti", "dicom")
        thick = f"0, or at least {SMALLEST_DEPTH}"
        return (
            ("depth", self.depth, 0 < self.depth < SMALLEST_DEPTH, thick),
            ("depth", self.depth, deep and not readable, f"0 with data.kind = {self.kind}"),
            ("patches", self.patches, self.patches > 1 and not deep, "1, or data.depth above 0"),
            ("masks", self.masks, deep and bool(self.masks), f'"" {where}'),
            ("modalities", self.modalities, deep and len(self.modalities) > 1, f"one {where}"),
            ("channels", self.channels, deep and self.channels != 1, f"1 {where}"),
            ("stack", self.stack, deep and self.stack != 1, f"1 {where}"),
            ("slice_spacing", self.slice_spacing, deep and self.slice_spacing != 0, f"0 {where}"),
        )

    def _of_names(self) -> tuple[tuple[str, Any, bool, str], ...]:
        asked = (*self.modalities, *((self.masks,) if self.kind == "nifti" and self.masks else ()))
        names = [modality_of(name) for name in asked]
        odd = not all(map(_MODALITY.fullmatch, asked)) or MASK in map(str.lower, self.modalities)
        twice = len(set(names)) < len(names)
        official = bool(self.hold_out) and self.split == "official"
        again = len(set(self.hold_out)) < len(self.hold_out)
        nameless = not all(name.strip() for name in self.classes)
        return (
            ("classes", self.classes, nameless, "a name for every class"),
            ("modalities", asked, odd, f"letters and digits, and no {MASK}"),
            ("modalities", asked, twice, "each once, data.masks too; T1W is T1"),
            ("hold_out", self.hold_out, again, "every patient once"),
            ("hold_out", self.hold_out, official, "[] with data.split = official"),
        )
