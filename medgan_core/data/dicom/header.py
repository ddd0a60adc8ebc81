"""One file's header: read with an allow-list of attributes, refused or repaired, before any pixel."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import pydicom
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from medgan_core.data.dicom.frames import frame_count, of_frame, taken
from medgan_core.data.dicom.reasons import QuarantineError, Refusal, Repair
from medgan_core.data.dicom.sources import Source, open_source
from medgan_core.data.places import DAMAGE
from medgan_core.patients import patient_key

SMALLEST = 8
MOST_SAMPLES = 1 << 25
"""Of one frame: rows × columns × samples. More is refused before it is decoded."""

SOP_CLASSES: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.2": "MG",
    "1.2.840.10008.5.1.4.1.1.1.3": "IO",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",  # enhanced
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",  # legacy converted
    "1.2.840.10008.5.1.4.1.1.3.1": "US",  # multi-frame
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",  # enhanced
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",  # legacy converted
    "1.2.840.10008.5.1.4.1.1.6.1": "US",
    "1.2.840.10008.5.1.4.1.1.7": "SC",
    "1.2.840.10008.5.1.4.1.1.7.2": "SC",  # multi-frame, grey bytes
    "1.2.840.10008.5.1.4.1.1.7.3": "SC",  # multi-frame, grey words
    "1.2.840.10008.5.1.4.1.1.7.4": "SC",  # multi-frame, colour
    "1.2.840.10008.5.1.4.1.1.12.1": "XA",
    "1.2.840.10008.5.1.4.1.1.12.2": "RF",
    "1.2.840.10008.5.1.4.1.1.20": "NM",
    "1.2.840.10008.5.1.4.1.1.77.1.1": "ES",
    "1.2.840.10008.5.1.4.1.1.77.1.4": "XC",
    "1.2.840.10008.5.1.4.1.1.77.1.5.1": "OP",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
    "1.2.840.10008.5.1.4.1.1.128.1": "PT",  # legacy converted
}
"""The classes that are read, and the kind of image that each is; no others are."""

WANTED = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType", "SyntheticData",
    "PatientID", "IssuerOfPatientID", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "BurnedInAnnotation", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
"""The attributes that the index reads; nothing else of a header is looked at."""
_TAGS: list[int | str | tuple[int, int]] = [tag for name in WANTED if (tag := tag_for_keyword(name))]
_DESCRIPTOR = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PhotometricInterpretation",
)
_GREY, _COLOUR = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"), ("RGB", "YBR_")


@dataclass(frozen=True)
class FrameHeader:
    """One frame: `position` [3], `spacing` [2] (rows, columns) in mm, unit `normal` [3]; () for unknown."""

    frame: int
    position: tuple[float, ...]
    normal: tuple[float, ...]
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class Header:
    """What the index keeps of a file, in memory alone: `patient`, `uid` and `series` are never written."""

    kind: str
    uid: str
    series: str
    patient: str
    number: int | None
    localizer: bool
    says_text: bool
    frames: tuple[FrameHeader, ...]
    repairs: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain lists and texts."""
        return asdict(self)

    @classmethod
    def of_json(cls, body: dict[str, Any]) -> "Header":
        """Back from `as_json`."""
        frames = tuple(
            FrameHeader(f["frame"], tuple(f["position"]), tuple(f["normal"]), tuple(f["spacing"]))
            for f in body["frames"]
        )
        return cls(**{**body, "frames": frames, "repairs": tuple(body["repairs"])})


def read_header(source: Source, policy: str, *, training: bool = True) -> Header:
    """The header of one file; `policy` is that of frames. Raises QuarantineError.

    Synthetic images are refused for `training` alone.
    """
    stream, _ = open_source(source)
    with stream:
        dataset, repairs = parse(stream, _TAGS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _header(dataset, policy, repairs, training)
        except DAMAGE as error:
            if isinstance(error, QuarantineError | MemoryError):
                raise
            raise QuarantineError(Refusal.DAMAGED_HEADER, type(error).__name__) from None


def parse(
    stream: BinaryIO, tags: list[int | str | tuple[int, int]] | None, *, pixels: bool = False
) -> tuple[FileDataset, list[Repair]]:
    """A file's dataset with a syntax that is certain, and what was repaired. Raises QuarantineError."""
    try:
        # pydicom warns of attributes that we never look at
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = _dcmread(stream, tags, pixels)
            return dataset, _settle_syntax(dataset)
    except DAMAGE as error:
        if isinstance(error, QuarantineError | MemoryError):
            raise
        reason = Refusal.DAMAGED_PIXELS if pixels else Refusal.DAMAGED_HEADER
        raise QuarantineError(reason, type(error).__name__) from None


def _dcmread(stream: BinaryIO, tags: Any, pixels: bool) -> FileDataset:
    try:
        return pydicom.dcmread(stream, specific_tags=tags, stop_before_pixels=not pixels)
    except InvalidDicomError:
        stream.seek(0)
    try:
        dataset = pydicom.dcmread(stream, specific_tags=tags, stop_before_pixels=not pixels, force=True)
    except MemoryError:
        raise
    except DAMAGE:
        raise QuarantineError(Refusal.NOT_DICOM) from None
    if not dataset.get("SOPClassUID") or not UID(str(dataset.SOPClassUID)).is_valid:
        raise QuarantineError(Refusal.NOT_DICOM)
    return dataset


def _settle_syntax(dataset: FileDataset) -> list[Repair]:
    """PS3.10 7.1 asks for a syntax in the file meta; without any meta, the elements show which it is."""
    meta = dataset.file_meta
    stated = meta.get("TransferSyntaxUID")
    if stated:
        syntax = UID(str(stated))
        if not (syntax.is_transfer_syntax and not syntax.is_private):
            raise QuarantineError(Refusal.NO_SYNTAX)
        return []
    if len(meta) > 0:
        raise QuarantineError(Refusal.NO_SYNTAX)
    implicit, little = dataset.original_encoding
    uid = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    meta.TransferSyntaxUID = uid
    return [Repair.NO_META]


def _header(dataset: FileDataset, policy: str, repairs: list[Repair], training: bool) -> Header:
    _admit(dataset)
    if training and _text(dataset, "SyntheticData").upper() == "YES":
        raise QuarantineError(Refusal.SYNTHETIC)
    count = frame_count(dataset)
    chosen = taken(count, policy)
    kind = SOP_CLASSES[str(dataset.SOPClassUID)]
    frames = tuple(_frame(dataset, frame) for frame in chosen)
    if not all(frame.spacing for frame in frames):
        repairs.append(Repair.NO_SPACING)
    return Header(
        kind=kind,
        uid=str(dataset.get("SOPInstanceUID") or ""),
        series=str(dataset.get("SeriesInstanceUID") or ""),
        patient=patient_key(_text(dataset, "PatientID"), _text(dataset, "IssuerOfPatientID")),
        number=_integer(dataset.get("InstanceNumber")),
        localizer="LOCALIZER" in [str(value).upper() for value in _values(dataset.get("ImageType"))],
        says_text=_text(dataset, "BurnedInAnnotation").upper() == "YES",
        frames=frames,
        repairs=tuple(repairs),
    )


def _admit(dataset: FileDataset) -> None:
    """Refuse what may not be trained on, or could not be decoded."""
    sop_class = str(dataset.get("SOPClassUID") or "")
    stored = str(dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    if MediaStorageDirectoryStorage in (sop_class, stored):
        raise QuarantineError(Refusal.DICOMDIR)
    if not sop_class:
        raise QuarantineError(Refusal.DAMAGED_HEADER, "no SOPClassUID")
    if sop_class not in SOP_CLASSES:
        raise QuarantineError(Refusal.SOP_CLASS)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.is_deflated and not _decodable(syntax):
        raise QuarantineError(Refusal.NO_DECODER, syntax.name)
    if any(dataset.get(name) in (None, "") for name in _DESCRIPTOR):
        raise QuarantineError(Refusal.DAMAGED_HEADER, "no description of the pixels")
    samples = int(dataset.get("SamplesPerPixel") or 1)
    photometric = str(dataset.PhotometricInterpretation)
    if not (photometric in _GREY if samples == 1 else samples == 3 and photometric.startswith(_COLOUR)):
        raise QuarantineError(Refusal.PHOTOMETRIC, photometric if photometric.isascii() else "")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if min(rows, columns) < SMALLEST:
        raise QuarantineError(Refusal.TOO_SMALL)
    if rows * columns * samples > MOST_SAMPLES:
        raise QuarantineError(Refusal.TOO_LARGE)


def _decodable(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _frame(dataset: Dataset, frame: int) -> FrameHeader:
    own = of_frame(dataset, frame)

    def numbers(name: str, count: int) -> tuple[float, ...]:
        return _numbers(own.get(name, dataset.get(name)), count)

    spacing: tuple[float, ...] = ()
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = spacing or tuple(v for v in numbers(name, 2) if v > 0)
    orientation = numbers("ImageOrientationPatient", 6)
    return FrameHeader(
        frame,
        numbers("ImagePositionPatient", 3),
        _normal(orientation) if orientation else (),
        spacing if len(spacing) == 2 else (),
    )


def _normal(orientation: Sequence[float]) -> tuple[float, ...]:
    """The unit normal of a plane with these row and column directions (PS3.3 C.7.6.2.1.1), else ()."""
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    cross = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = sum(v * v for v in cross) ** 0.5
    return tuple(v / length for v in cross) if 0.5 < length < 2 else ()


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    """So many finite numbers, or none at all."""
    try:
        found = tuple(float(v) for v in _values(value))
    except (ValueError, TypeError):
        return ()
    return found if len(found) == count and all(abs(v) < 1e9 for v in found) else ()


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (ValueError, TypeError):
        return None


def _values(value: Any) -> Sequence[Any]:
    if value is None or value == "":
        return ()
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else (value,)


def _text(dataset: Dataset, name: str) -> str:
    return str(dataset.get(name) or "").strip()
