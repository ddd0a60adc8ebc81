"""Synthetic patients with their studies and series: all that a caller decides about the files.

What is left empty is derived from the model's hash, the seed and the index of the first image, or from the
date of the release. Nothing here comes out of a file of a real patient unless a caller puts it in.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, get_args

import numpy as np
from highdicom._standard_utils import get_anatomic_region_map
from numpy.typing import NDArray

from medgan_core.errors import InputError
from medgan_core.release.dicom.geometry import Geometry
from medgan_core.release.dicom.uids import LONGEST, is_uid

Modality = Literal["CT", "MR", "DX", "SC"]
Laterality = Literal["", "L", "R"]
MODALITIES: tuple[str, ...] = get_args(Modality)
Pixels = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int16]
_KINDS = ("uint8", "uint16", "int16")
_SHORT, _LONG, _NAME = 16, 64, 64
_CONTROLS = {"\\", *map(chr, range(32)), "\x7f"}


@dataclass(frozen=True)
class Segment:
    """What value k of a mask means: `label`, and two codes as (value, scheme, meaning), such as of SCT.

    `category` and `kind` are the Segmented Property Category and Type (PS3.16 CID 7150 and below).
    """

    label: str
    category: tuple[str, str, str] = ("49755003", "SCT", "Morphologically Abnormal Structure")
    kind: tuple[str, str, str] = ("4147007", "SCT", "Mass")


@dataclass(frozen=True, eq=False)
class Masks:
    """A segmentation of a series: `values` [n, h, w] uint8, 0 for background, k for `segments[k - 1]`."""

    values: NDArray[np.uint8]
    segments: tuple[Segment, ...]
    uid: str = ""
    instance_uid: str = ""


@dataclass(frozen=True, eq=False)
class Series:
    """Slices of one modality.

    `pixels` [n, h, w], or [n, h, w, 3] RGB for SC, are grey levels where they are uint8: 0 to 255 fill the
    public window of CT (HU) and the whole range of MR and DX. As uint16 or int16 they are stored as they
    are: int16 in CT is HU. `window` is (centre, width) in HU or stored values; it also says which HU uint8
    levels of CT stand for.

    `index` is that of the first image among those drawn with the seed. `geometry` has a position for each
    slice of CT and MR, and none for DX and SC. `body_part` is a term of PS3.16 Annex L in capitals; a paired
    one needs `laterality` in CT, MR and SC. `free_of_text` and `free_of_faces` say that a check ran on
    these pixels and found none.

    Raises InputError for what cannot be written.
    """

    modality: Modality
    pixels: Pixels
    index: int
    geometry: Geometry | None = None
    label: str = ""
    body_part: str = "CHEST"
    laterality: Laterality = ""
    description: str = ""
    window: tuple[float, float] | None = None
    free_of_text: bool = False
    free_of_faces: bool = False
    masks: Masks | None = None
    uid: str = ""
    frame_uid: str = ""
    instance_uids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_pixels(self)
        _check_place(self)
        _check_text("description", self.description, _LONG)
        _check_uids(self.uid, self.frame_uid, *self.instance_uids)
        if self.instance_uids and len(self.instance_uids) != len(self.pixels):
            raise InputError(f"instance_uids: expected {len(self.pixels)}, one for each slice")

    def facts(self) -> str:
        """All but the pixels as one digest, which goes into the identifiers that are derived."""
        return _digest(self, {"pixels", "masks"}, self.pixels.shape, self.pixels.dtype)


@dataclass(frozen=True, eq=False)
class Study:
    """Series of one visit; `taken` is when (the release's date when None), `age` as in 045Y."""

    series: tuple[Series, ...]
    identifier: str = ""
    description: str = ""
    accession: str = ""
    age: str = ""
    taken: datetime | None = None
    uid: str = ""

    def __post_init__(self) -> None:
        if not self.series:
            raise InputError("a study without a series: expected one or more")
        for name, text in (("identifier", self.identifier), ("accession", self.accession)):
            _check_text(name, text, _SHORT)
        _check_text("description", self.description, _LONG)
        _check_uids(self.uid)

    def facts(self) -> str:
        """All but the pixels as one digest."""
        return _digest(self, {"series"}, [series.facts() for series in self.series])


@dataclass(frozen=True, eq=False)
class Patient:
    """Somebody who does not exist. `birth_date` as YYYYMMDD or empty."""

    studies: tuple[Study, ...]
    identifier: str = ""
    name: str = ""
    sex: Literal["", "M", "F", "O"] = ""
    birth_date: str = ""

    def __post_init__(self) -> None:
        if not self.studies:
            raise InputError("a patient without a study: expected one or more")
        _check_text("identifier", self.identifier, _LONG)
        _check_text("name", self.name, _NAME)


def _check_pixels(series: Series) -> None:
    shape, kind = series.pixels.shape, str(series.pixels.dtype)
    colour = len(shape) == 4 and shape[3] == 3
    if series.modality not in MODALITIES:
        raise InputError(f"modality {series.modality!r}: expected one of {', '.join(MODALITIES)}")
    if not (len(shape) == 3 or colour) or 0 in shape or max(shape[1:3]) > 65_535 or kind not in _KINDS:
        raise InputError(
            f"pixels {kind} {list(shape)}: expected uint8, uint16 or int16 [n, h, w], or uint8 [n, h, w, 3]"
        )
    if colour and (series.modality != "SC" or kind != "uint8"):
        raise InputError(f"colour images {kind} as {series.modality}: expected uint8 as SC")
    allowed = {"CT": ("uint8", "int16"), "SC": ("uint8",)}.get(series.modality, ("uint8", "uint16"))
    if kind not in allowed:
        raise InputError(f"{series.modality} of {kind}: expected {' or '.join(allowed)}")
    if series.window is not None and not series.window[1] >= 1:
        raise InputError(f"window width {series.window[1]}: expected 1 or more")
    if series.index < 0:
        raise InputError(f"index {series.index}: expected 0 or more")


def _check_place(series: Series) -> None:
    slices = len(series.pixels)
    placed = len(series.geometry.positions) if series.geometry else 0
    if series.modality in ("CT", "MR") and placed != slices:
        raise InputError(
            f"{series.modality} of {slices} slices with {placed} positions: expected one for each"
        )
    if series.modality == "DX" and series.geometry is None:
        raise InputError("DX without a geometry: expected the spacing of its pixels")
    regions = get_anatomic_region_map()
    if series.body_part not in regions:
        near = ", ".join(sorted(regions)[:4])
        raise InputError(f"body part {series.body_part!r}: expected a term of PS3.16 Annex L, such as {near}")
    if regions[series.body_part][1] and not series.laterality and series.modality != "DX":
        raise InputError(f"body part {series.body_part} is one of a pair: expected laterality L or R")


def _check_text(name: str, text: str, longest: int) -> None:
    if len(text) > longest or set(text) & _CONTROLS:
        raise InputError(f"{name} {text!r}: expected at most {longest} characters of one line, no backslash")


def _check_uids(*uids: str) -> None:
    for uid in uids:
        if uid and not is_uid(uid):
            raise InputError(f"UID {uid!r}: expected numbers between dots, at most {LONGEST} characters")


def _digest(value: Any, without: set[str], *more: object) -> str:
    told = [(f.name, getattr(value, f.name)) for f in fields(value) if f.name not in without]
    return sha256(repr((told, more)).encode("utf-8", "surrogatepass")).hexdigest()
