"""A restored or translated image as a derived one (PS3.3 C.7.6.1.1.2): the source's header, new pixels."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import UID
from pydicom.valuerep import DSfloat

from medgan_core.release.apply.marks import complete, equipment, reference, series_number, stamp, uid_of
from medgan_core.release.apply.pictures import Made

_NUMBER = {"restoration": 2000, "translation": 3000}
"""Added to the number of the source's series."""
_STALE = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "IconImageSequence",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
"""What described the source's pixels or its bytes."""
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def derived(source: FileDataset, pixels: NDArray[np.float64], made: Made) -> Dataset:
    """The source with `pixels` [frames, f·h, f·w] or [frames, f·h, f·w, 3] in its own values, not rounded."""
    (copy,) = complete([source])
    dataset = deepcopy(copy)
    origin = made.origin
    dataset.SOPInstanceUID = UID(uid_of(origin, "instance", source.SOPInstanceUID))
    dataset.SeriesInstanceUID = UID(uid_of(origin, "series", source.get("SeriesInstanceUID", "")))
    dataset.SeriesNumber = series_number(source, _NUMBER[made.purpose])
    dataset.SeriesDescription = f"{str(source.get('SeriesDescription') or '')[:30]} {origin.words}".strip()[
        :64
    ]
    dataset.DerivationDescription = f"{origin.described()}; drawn by a network, not measured"[:1024]
    dataset.SourceImageSequence = [reference(source)]
    dataset.ContributingEquipmentSequence = [
        *source.get("ContributingEquipmentSequence", []),
        equipment(origin),
    ]
    _mark_types(dataset)
    stamp(dataset)
    for keyword in _STALE:
        if keyword in dataset:
            delattr(dataset, keyword)
    if made.factor > 1:
        _enlarge(dataset, made.factor)
    _set_pixels(dataset, source, pixels)
    return dataset


def _mark_types(dataset: Dataset) -> None:
    """DERIVED\\SECONDARY, of enhanced images DERIVED\\PRIMARY (PS3.3 C.8.16.1.2); what follows stays."""
    rest, enhanced = list(dataset.get("ImageType") or [])[2:], any(True for _ in _groups(dataset))
    dataset.ImageType = ["DERIVED", "PRIMARY" if enhanced else "SECONDARY", *rest]
    for group in _groups(dataset):
        for element in group:
            if element.keyword.endswith("FrameTypeSequence") and element.value:
                element.value[0].FrameType = ["DERIVED", *list(element.value[0].FrameType)[1:]]


def _enlarge(dataset: Dataset, factor: int) -> None:
    """Smaller pixels, whose first one has its middle nearer to the corner; overlays do not fit any more."""
    for tag in [tag for tag in dataset.keys() if tag.group & 0xFF00 == 0x6000]:  # noqa: SIM118
        del dataset[tag]
    groups = list(_groups(dataset))
    shared = groups[0] if groups else Dataset()
    for holder in (dataset, *groups):
        _move(holder, _inner(shared, holder, dataset), factor)
    for part in (dataset, *(_first(g, "PixelMeasuresSequence") for g in groups)):
        for keyword in _SPACINGS:
            if part is not None and part.get(keyword):
                part[keyword].value = [
                    DSfloat(float(mm) / factor, auto_format=True) for mm in part[keyword].value
                ]


def _inner(shared: Dataset, own: Dataset, whole: Dataset) -> tuple[Any, Any]:
    """Orientation and spacing that hold for a group: its own, the shared ones, or those of the file."""
    found = []
    for sequence, keyword in (
        ("PlaneOrientationSequence", "ImageOrientationPatient"),
        ("PixelMeasuresSequence", "PixelSpacing"),
    ):
        places = (_first(own, sequence), _first(shared, sequence), whole)
        found.append(next((p.get(keyword) for p in places if p is not None and p.get(keyword)), None))
    return found[0], found[1]


def _move(holder: Dataset, plane: tuple[Any, Any], factor: int) -> None:
    orientation, spacing = plane
    place = _first(holder, "PlanePositionSequence") if "PlanePositionSequence" in holder else holder
    if place is None or not place.get("ImagePositionPatient") or not orientation or not spacing:
        return
    cosines = np.array([float(v) for v in orientation])
    rows, columns = (float(mm) for mm in spacing)
    shift = (1 / factor - 1) / 2 * (cosines[:3] * columns + cosines[3:] * rows)
    moved = np.array([float(v) for v in place.ImagePositionPatient]) + shift
    place.ImagePositionPatient = [DSfloat(float(v), auto_format=True) for v in moved]


def _groups(dataset: Dataset) -> Iterator[Dataset]:
    """The functional groups of an enhanced image: the shared ones first, then those of each frame."""
    yield from dataset.get("SharedFunctionalGroupsSequence") or []
    yield from dataset.get("PerFrameFunctionalGroupsSequence") or []


def _first(dataset: Dataset, sequence: str) -> Dataset | None:
    items = dataset.get(sequence)
    return items[0] if items else None


def _set_pixels(dataset: Dataset, source: Dataset, pixels: NDArray[np.float64]) -> None:
    bits, signed = int(source.BitsStored), bool(source.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    kind = np.dtype(f"{'i' if signed else 'u'}{int(source.BitsAllocated) // 8}")
    values = pixels.round().clip(low, high).astype(kind)
    colour = values.ndim == 4
    photometric = "RGB" if colour else str(source.PhotometricInterpretation)
    if colour:
        dataset.PlanarConfiguration = 0
    uid = dataset.SOPInstanceUID
    dataset.set_pixel_data(
        values[0] if len(values) == 1 else values, photometric, bits, generate_instance_uid=False
    )
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
