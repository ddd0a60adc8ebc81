"""An image as an archive's object is kept: its stored values, and the numbers that say what they mean.

Nothing else of the file is left: no name, date, text, UID or private element, and nothing that a codestream,
an overlay or a preamble may carry, since the pixels are decoded and written anew.
"""

import io
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_file_meta_info
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from medgan_core.data.dicom.frames import GROUPS
from medgan_core.data.dicom.pixels import Frame, Stored, decode
from medgan_core.data.dicom.reasons import QuarantineError, Refusal
from medgan_core.data.dicom.sources import Source

NUMBERS = (
    "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "PixelSpacing", "ImagerPixelSpacing",
    "NominalScannedPixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
)  # fmt: skip
"""The numbers that are kept, beside those that describe the pixels."""
TABLES = ("ModalityLUTSequence", "VOILUTSequence")
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_KEPT = {*NUMBERS, *TABLES, "VOILUTFunction"}


def bare(source: Source, frames: Sequence[int], series: str, uid: str) -> bytes:
    """These frames of a file as a DICOM file of its own, deflated; `series` and `uid` go in as its UIDs.

    Raises QuarantineError.
    """
    found = list(decode(source, frames))
    first = found[0].header
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = first.SOPClassUID, uid, series
    number = first.get("InstanceNumber")
    made.InstanceNumber = None if number in (None, "") else int(number)
    if len(found) == 1:
        _copy(first, made, _KEPT)
    else:
        grouped = {keyword for _, keywords in GROUPS for keyword in keywords}
        _copy(first, made, _KEPT - grouped)
        made.PerFrameFunctionalGroupsSequence = [_groups(frame.header) for frame in found]
        made.NumberOfFrames = len(found)
    _put_pixels(made, found)
    return _written(made)


def _groups(header: Dataset) -> Dataset:
    """One frame's functional groups (PS3.3 C.7.6.16)."""
    item = Dataset()
    for sequence, keywords in GROUPS:
        inner = Dataset()
        _copy(header, inner, _KEPT & set(keywords))
        if len(inner):
            setattr(item, sequence, [inner])
    return item


def _copy(header: Dataset, made: Dataset, keywords: set[str]) -> None:
    for keyword in sorted(keywords & {element.keyword for element in _elements(header, keywords)}):
        value = header.get(keyword)
        if keyword in TABLES:
            setattr(made, keyword, [_table(item) for item in value[:1]])
        elif keyword in NUMBERS:
            setattr(made, keyword, _numbers(value))
        elif str(value) in FUNCTIONS:
            setattr(made, keyword, str(value))


def _elements(header: Dataset, keywords: set[str]) -> Iterator[Any]:
    return (header[keyword] for keyword in keywords if keyword in header)


def _table(item: Dataset) -> Dataset:
    """A look-up table (PS3.3 C.11.1), as long as it says it is."""
    made = Dataset()
    for keyword in ("LUTDescriptor", "LUTData"):
        made[keyword] = item[keyword]
    length, data = int(made.LUTDescriptor[0]) or 1 << 16, made.LUTData
    made["LUTData"].value = data[: 2 * length] if isinstance(data, bytes) else data[:length]
    return made


def _numbers(value: Any) -> list[DSfloat] | None:
    if value is None or value == "":
        return None
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [DSfloat(float(each), auto_format=True) for each in values]


def _put_pixels(made: Dataset, found: Sequence[Frame]) -> None:
    """Uncompressed, in as few bytes as BitsStored needs; a palette becomes RGB."""
    header = found[0].header
    values, bits = np.stack([_shown(frame) for frame in found]), int(header.BitsStored)
    if header.PhotometricInterpretation == "PALETTE COLOR":
        bits = int(header.RedPaletteColorLookupTableDescriptor[2])
    colour = values.ndim == 4
    signed = bool(header.PixelRepresentation) and not colour
    kind = np.dtype(f"<{'i' if signed else 'u'}{1 if bits <= 8 else 2 if bits <= 16 else 4}")
    if values.min() < np.iinfo(kind).min or values.max() > np.iinfo(kind).max:
        raise QuarantineError(Refusal.BITS)
    made.Rows, made.Columns = values.shape[1:3]
    made.SamplesPerPixel, made.PixelRepresentation = 3 if colour else 1, int(signed)
    made.BitsAllocated, made.BitsStored, made.HighBit = 8 * kind.itemsize, bits, bits - 1
    made.PhotometricInterpretation = "RGB" if colour else header.PhotometricInterpretation
    if colour:
        made.PlanarConfiguration = 0
    raw = values.astype(kind).tobytes()
    made.add_new(0x7FE00010, "OB" if kind.itemsize == 1 else "OW", raw + b"\0" * (len(raw) % 2))


def _shown(frame: Frame) -> Stored:
    if frame.header.PhotometricInterpretation != "PALETTE COLOR":
        return frame.stored
    coloured: Stored = apply_color_lut(frame.stored, frame.header)[..., :3]
    return coloured


def _written(made: Dataset) -> bytes:
    """With the fastest deflation (PS3.5 A.5): pydicom's own takes longer than all else together."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream, body = DicomBytesIO(), io.BytesIO()
    stream.write(bytes(128) + b"DICM")
    write_file_meta_info(stream, meta, enforce_standard=True)
    dcmwrite(body, made, implicit_vr=False, little_endian=True)
    deflate = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    packed = deflate.compress(body.getbuffer()) + deflate.flush()
    return stream.getvalue() + packed + b"\0" * (len(packed) % 2)
