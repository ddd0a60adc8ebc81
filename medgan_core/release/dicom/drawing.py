"""From a release to synthetic patients: one for each image, or for each series where slices are asked for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan_core.data.dicom.windows import CT_WINDOWS
from medgan_core.errors import InputError
from medgan_core.release.bundle import Release
from medgan_core.release.dicom.geometry import Geometry, stack
from medgan_core.release.dicom.patients import Laterality, Modality, Patient, Series, Study
from medgan_core.release.dicom.provenance import Provenance
from medgan_core.release.dicom.studies import write_studies

FIELD = {"CT": 350.0, "MR": 240.0, "DX": 360.0, "SC": 0.0}
"""Width in mm that an image stands for where no spacing is asked for: public constants, as usual for a chest
in CT and DX and for a head in MR. SC has no spacing then."""
THICKNESS = 5.0
MOST_SLICES = 10_000
_SAME = {"CR": "DX"}
_UNKNOWN = ("", "OT")


@dataclass(frozen=True)
class Asked:
    """How images become studies.

    `modality` None is that of the release. `slices` independent images of one class make a series; `spacing`
    and `thickness` in mm; `first` is the number of the first image among those of the seed.
    """

    modality: Modality | None = None
    slices: int = 1
    spacing: float | None = None
    thickness: float = THICKNESS
    body_part: str = "CHEST"
    laterality: Laterality = ""
    first: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.slices <= MOST_SLICES:
            raise InputError(f"{self.slices} slices in a series: expected 1 to {MOST_SLICES:,}")


def write_release(
    out: Path, release: Release, wanted: int | Mapping[str, int], seed: int, asked: Asked
) -> int:
    """Draw images from a release and write them as studies to the folder `out`; how many files.

    Raises RefusedError where the release is NOT PRIVATE, InputError where it cannot be of this modality.
    """
    provenance = Provenance.of(release, seed)
    modality = modality_of(release, asked.modality)
    images, labels = release.sample(wanted, seed, asked.first)
    return write_studies(out, patients(images, labels, release, modality, asked), provenance)


def modality_of(release: Release, wanted: Modality | None) -> Modality:
    """The modality to write: what is wanted, as far as it is no lie about what the release has learned.

    Raises InputError for another, and for a release whose channels are modalities or slices: as colours of
    one picture they would be a lie.
    """
    if release.channels:
        raise InputError(
            f"task {release.facts.task}: its {len(release.channels)} channels ({release.channels[0]} to "
            f"{release.channels[-1]}) are no colours and are not written as DICOM; use --format npz or png"
        )
    declared = release.card.data.modality.upper()
    known = _SAME.get(declared, declared)
    own: Modality = next((m for m in ("CT", "MR", "DX") if m == known), "SC")
    without_unit = own == "CT" and release.study.data.window == "file"
    if release.facts.image_shape[0] == 3 or without_unit:
        own = "SC"
    if wanted in (None, own, "SC"):
        return wanted or own
    if declared in _UNKNOWN and release.facts.image_shape[0] == 1:
        return wanted
    allowed = " or ".join(dict.fromkeys((own, "SC")))
    why = " in each file's own window, whose grey levels are no HU" if without_unit else ""
    raise InputError(f"--modality {wanted}: the release learned from {declared}{why}; expected {allowed}")


def window_of(release: Release, modality: Modality) -> tuple[float, float] | None:
    """Of CT centre and width in HU: the window that the study was read in, of which grey levels are parts."""
    return CT_WINDOWS.get(release.study.data.window) if modality == "CT" else None


def patients(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    release: Release,
    modality: Modality,
    asked: Asked,
) -> Iterator[Patient]:
    """A synthetic patient for each series of drawn images, as `Release.sample` gives them."""
    for start, stop in runs(labels, asked.slices):
        pixels = images[start:stop]
        series = Series(
            modality,
            pixels,
            index=asked.first + start,
            geometry=_geometry(pixels, modality, asked),
            label=release.facts.classes[labels[start]],
            window=window_of(release, modality),
            body_part=asked.body_part,
            laterality=asked.laterality,
        )
        yield Patient((Study((series,)),))


def runs(labels: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Where series begin and end: neighbours of one class, at most `most` together."""
    start = 0
    for place in range(1, len(labels) + 1):
        if place == len(labels) or place - start == most or labels[place] != labels[start]:
            yield start, place
            start = place


def _geometry(pixels: NDArray[np.uint8], modality: Modality, asked: Asked) -> Geometry | None:
    slices, rows, columns = pixels.shape[:3]
    step = asked.spacing or round(FIELD[modality] / columns, 6)
    if not step and asked.spacing is None:
        return None
    if modality in ("CT", "MR"):
        return stack(slices, rows, columns, (step, step), asked.thickness)
    return Geometry((step, step), asked.thickness)
