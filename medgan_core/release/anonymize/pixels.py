"""Pixels that are kept: decoded, rid of what rides along with them, and written uncompressed.

A codestream has room for comments and trailing bytes, and the bits above Bits Stored for an overlay
(PS3.5 8.1.1, retired): after decoding and masking nothing but the image is left. Text is blanked.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array

from medgan_core.data.dicom.text import CHECKED_KINDS, Box, can_look, find_text
from medgan_core.errors import DataError

AT_RISK = CHECKED_KINDS | {"OT", "NM", "PX"}
"""Modalities whose images often have text in their pixels; CT and MR seldom do."""

_SCREENS = ("SCREEN", "DOSE", "REPORT", "SAVE", "CSA", "PROTOCOL")
Pixels = NDArray[Any]


def decode(dataset: Dataset) -> Pixels:
    """Pixels [frames, h, w] or [frames, h, w, 3] as stored, palettes as RGB. DataError where that fails."""
    try:
        values = pixel_array(dataset, correct_unused_bits=True)
    except Exception as error:  # decoders are of many makers, and so is what they raise
        raise DataError("its pixels cannot be decoded") from error
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        try:
            values = apply_color_lut(values, dataset)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise DataError("its palette cannot be read") from error
    colour = values.ndim > 2 and values.shape[-1] == 3 and _has_colours(dataset)
    values = values if values.ndim == (4 if colour else 3) else values[None]
    if values.ndim != (4 if colour else 3) or values.dtype.kind not in "iu":
        raise DataError("its pixels are of a kind that is not known here")
    return values


def at_risk(dataset: Dataset) -> bool:
    """Whether its pixels are to be searched for text: by modality, by what it says, or a saved screen."""
    words = " ".join(str(word) for word in _listed(dataset.get("ImageType"))).upper()
    return (
        str(dataset.get("Modality") or "OT") in AT_RISK
        or str(dataset.get("BurnedInAnnotation") or "NO") != "NO"
        or str(dataset.get("ConversionType") or "") != ""
        or any(word in words for word in _SCREENS)
    )


def without_text(pixels: Pixels) -> tuple[Pixels, int]:
    """The frames with text blanked, and how many boxes were.

    DataError where text cannot be looked for, or stays.
    """
    if not can_look():
        raise DataError("its pixels may hold text, and Tesseract is not installed to look for it")
    boxes = _boxes(pixels)
    if not boxes:
        return pixels, 0
    blanked = pixels.copy()
    for box in boxes:
        blanked[:, box.top : box.bottom, box.left : box.right] = pixels.min()
    if _boxes(blanked):
        raise DataError("text stays in its pixels after blanking")
    return blanked, len(boxes)


def put_pixels(made: Dataset, pixels: Pixels) -> None:
    """Write frames into a header: uncompressed, Explicit VR Little Endian, grey or RGB."""
    frames, made.Rows, made.Columns = pixels.shape[:3]
    colour = pixels.ndim == 4
    made.SamplesPerPixel = 3 if colour else 1
    made.BitsAllocated = 8 * pixels.dtype.itemsize
    stored = made.get("BitsStored")
    if not isinstance(stored, int) or colour or not _fits(pixels, stored):
        stored = made.BitsAllocated
    made.BitsStored, made.HighBit = stored, stored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    if colour:
        made.PlanarConfiguration, made.PhotometricInterpretation = 0, "RGB"
    elif made.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError("its photometric interpretation is not known here")
    if frames > 1 or "NumberOfFrames" in made:
        made.NumberOfFrames = frames
    raw = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    made.add_new(0x7FE00010, "OB" if made.BitsAllocated == 8 else "OW", raw + b"\0" * (len(raw) % 2))


def _fits(pixels: Pixels, stored: int) -> bool:
    signed = pixels.dtype.kind == "i"
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
    return stored > 1 and bool(pixels.min() >= low and pixels.max() <= high)


def _boxes(pixels: Iterable[Pixels]) -> list[Box]:
    return [box for frame in pixels for box in find_text(frame)]


def _has_colours(dataset: Dataset) -> bool:
    return str(dataset.get("PhotometricInterpretation")) not in ("MONOCHROME1", "MONOCHROME2")


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else list(value)
