"""Stored values of one frame to [0, 1]: modality LUT, window, photometric interpretation; grey or colour.

Scaling looks at one image at a time: CT by a public window, others by the file's own window or range.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import get_expected_length, pixel_array

from medgan_core.data.dicom.frames import with_frame
from medgan_core.data.dicom.header import MOST_SAMPLES, SOP_CLASSES, parse
from medgan_core.data.dicom.reasons import QuarantineError, Refusal, Repair
from medgan_core.data.dicom.sources import Source, open_source
from medgan_core.data.dicom.windows import CT_WINDOWS, by_function, linear
from medgan_core.data.places import DAMAGE

LARGEST_FILE = 1 << 28
"""Bytes of a file with one frame."""
_OWN_RANGE = ("MR", "PT", "NM")
"""Kinds in arbitrary units: without a window their images are scaled by their own range."""
_FASTEST = ("pylibjpeg", "pyjpegls", "gdcm", "pydicom")
_MOST_LEVELS = 1 << 16

Pixels = NDArray[np.float32]
Stored = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Frame:
    """`stored` as decoded, [h, w] or [h, w, 3], and the header that holds for it; `repairs` of the file."""

    stored: Stored
    header: Dataset
    repairs: tuple[Repair, ...]

    def shown(self) -> Stored:
        """The values as they look: colours of a palette, else as stored."""
        palette = self.header.PhotometricInterpretation == "PALETTE COLOR"
        return _colour(self.stored, self.header) if palette else self.stored

    def digest(self) -> str:
        """A hash of the values, the same for every compression without loss."""
        values = np.ascontiguousarray(
            self.stored.astype(np.int64, copy=False)
        )  # whatever type a decoder gives
        return sha256(str(values.shape).encode() + values.tobytes()).hexdigest()


def decode(source: Source, frames: Sequence[int]) -> Iterator[Frame]:
    """These frames of a file, one after the other. Raises QuarantineError."""
    stream, size = open_source(source)
    with stream:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield from _decode(stream, size, frames)
        except MemoryError:
            raise QuarantineError(Refusal.TOO_LARGE, "memory") from None
        except DAMAGE as error:
            if isinstance(error, QuarantineError):
                raise
            if "does not support" in str(error):  # a kind of JPEG that the installed decoders leave out
                raise QuarantineError(Refusal.NO_DECODER) from None
            raise QuarantineError(Refusal.DAMAGED_PIXELS, type(error).__name__) from None


def _decode(stream: BinaryIO, size: int, frames: Sequence[int]) -> Iterator[Frame]:
    single = frames == (0,) or size <= LARGEST_FILE
    if not single:
        dataset, repairs = parse(stream, None)
    elif size > LARGEST_FILE:
        raise QuarantineError(Refusal.TOO_LARGE, "the file")
    else:
        dataset, repairs = parse(stream, None, pixels=True)
        repairs += _check_length(dataset)
    if _has_overlay(dataset):
        repairs.append(Repair.OVERLAY)
    plugin = _plugin(dataset)
    for frame in frames:
        # pydicom would cut off the bits above BitsStored, and values wrap silently
        options: dict[str, Any] = {"index": frame, "correct_unused_bits": False, "decoding_plugin": plugin}
        stored = pixel_array(dataset if single else stream, **options)
        if stored.size > MOST_SAMPLES:
            raise QuarantineError(Refusal.TOO_LARGE)
        yield Frame(stored, with_frame(dataset, frame), tuple(repairs))


def _check_length(dataset: FileDataset) -> list[Repair]:
    """Compare the bytes of pixels that are not compressed with what the header asks for."""
    if "PixelData" not in dataset:
        raise QuarantineError(Refusal.NO_PIXELS)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        return []
    wanted, present = get_expected_length(dataset), len(dataset.PixelData)
    if present < wanted:
        raise QuarantineError(Refusal.SHORT_PIXELS)
    row = wanted // max(1, int(dataset.Rows) * int(dataset.get("NumberOfFrames") or 1))
    if present - wanted >= max(row, 2):
        raise QuarantineError(Refusal.LONG_PIXELS)
    return [Repair.PADDING] if present - wanted > 1 else []


def _plugin(dataset: FileDataset) -> str:
    """The fastest of the installed decoders of a syntax; "" leaves it to pydicom."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return ""
    available = get_decoder(syntax).available_plugins
    return next((name for name in _FASTEST if name in available), "")


def _has_overlay(dataset: Dataset) -> bool:
    return any(tag >> 24 in (0x50, 0x60) and not tag >> 16 & 1 for tag in dataset.keys())  # noqa: SIM118


def to_unit(frame: Frame, window: str) -> tuple[Pixels, tuple[Repair, ...]]:
    """[h, w] or [h, w, 3] in [0, 1], bright where the tissue is dense, and what was repaired on the way.

    `window` is a name of `CT_WINDOWS`, or "file" for a CT's own one.
    """
    stored, header = frame.stored, frame.header
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if stored.ndim == 3 or header.PhotometricInterpretation == "PALETTE COLOR":
                return _colour(stored, header), frame.repairs
            pixels, repairs = _grey(stored, header, window)
    except DAMAGE as error:
        if isinstance(error, QuarantineError):
            raise
        raise QuarantineError(Refusal.DAMAGED_PIXELS, type(error).__name__) from None
    if not np.isfinite(pixels).all():
        raise QuarantineError(Refusal.NOT_FINITE)
    return pixels, (*frame.repairs, *repairs)


def _colour(stored: Stored, header: Dataset) -> Pixels:
    """RGB as it is shown; pydicom has converted YBR to RGB already."""
    if header.PhotometricInterpretation == "PALETTE COLOR":
        bits = int(header.RedPaletteColorLookupTableDescriptor[2])
        stored = apply_color_lut(stored, header)[..., :3]
    else:
        bits = int(header.BitsStored)
    if stored.ndim != 3 or stored.shape[2] != 3:
        raise QuarantineError(Refusal.PHOTOMETRIC)
    if stored.min() < 0 or stored.max() >= 2**bits:
        raise QuarantineError(Refusal.BITS)
    return (stored / np.float32(2**bits - 1)).astype(np.float32)


def _grey(stored: Stored, header: Dataset, window: str) -> tuple[Pixels, list[Repair]]:
    """Each level is scaled once, where there are fewer levels than pixels."""
    low, high = _stored_range(header)
    least, most = int(stored.min()), int(stored.max())
    if least < low or most > high:
        raise QuarantineError(Refusal.BITS)
    few = most - least < _MOST_LEVELS
    offset = stored
    if few and least:
        offset = stored.astype(np.int64 if stored.itemsize > 2 else np.int32)
        offset -= least
    levels = np.arange(least, most + 1) if few else stored.astype(np.int64).ravel()
    values, repairs = _modality(levels, header)

    def own_range() -> tuple[float, float]:
        counts = np.bincount(offset.ravel(), minlength=len(levels)) if few else np.ones(len(levels))
        return _percentiles(values, counts)

    scaled, window_repairs = _windowed(values, header, window, own_range)
    if header.PhotometricInterpretation == "MONOCHROME1":
        scaled = 1 - scaled
    table = scaled.astype(np.float32)
    return table[offset] if few else table.reshape(stored.shape), repairs + window_repairs


def _stored_range(header: Dataset) -> tuple[int, int]:
    bits = int(header.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.PixelRepresentation else (0, 2**bits - 1)


def _modality(levels: Stored, header: Dataset) -> tuple[Stored, list[Repair]]:
    """PS3.3 C.11.1: a table, or slope and intercept. An empty slope is 1; CT needs its intercept."""
    if header.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(levels, header), dtype=np.float64), []
    slope, intercept = _first(header.get("RescaleSlope")), _first(header.get("RescaleIntercept"))
    if intercept is None and SOP_CLASSES[str(header.SOPClassUID)] == "CT":
        raise QuarantineError(Refusal.NO_HOUNSFIELD)
    defaulted = slope in (None, 0) and (intercept is not None or "RescaleSlope" in header)
    values = levels * np.float64(slope or 1) + np.float64(intercept or 0)
    return values, [Repair.NO_SLOPE] if defaulted else []


def _windowed(
    values: Stored, header: Dataset, window: str, own_range: Any
) -> tuple[NDArray[np.float64], list[Repair]]:
    kind = SOP_CLASSES[str(header.SOPClassUID)]
    if kind == "CT" and window != "file":
        return linear(values, *CT_WINDOWS[window]), []
    if header.get("VOILUTSequence"):
        largest = 2 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
        looked_up = np.asarray(apply_voi(values.astype(np.int64), header), dtype=np.float64)
        return linear(looked_up, largest / 2, largest), []
    center, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if center is not None and width is not None and width > 0:
        return by_function(values, center, width, str(header.get("VOILUTFunction") or "LINEAR")), []
    repairs = [Repair.NO_WINDOW] if width is not None and width <= 0 else []
    if kind in (*_OWN_RANGE, "CT"):
        low, high = own_range()
    else:
        edges = _modality(np.array(_stored_range(header)), header)[0]
        low, high = float(edges.min()), float(edges.max())
    return linear(values, (low + high) / 2, max(high - low, 1e-6)), repairs


def _percentiles(values: Stored, counts: Stored) -> tuple[float, float]:
    """The values below which half a percent of the pixels lie, and above which half a percent do."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(counts[order])
    low, high = (order[np.searchsorted(below, share * below[-1])] for share in (0.005, 0.995))
    return float(values[low]), float(values[high])


def _first(value: Any) -> float | None:
    """A window may have several values, the first being the default, or none."""
    if value is None or value == "":
        return None
    found = float(value[0] if hasattr(value, "__getitem__") and not isinstance(value, str) else value)
    return found if np.isfinite(found) else None


def shrink(pixels: Pixels, side: int) -> Pixels:
    """[h, w] or [h, w, 3] to [side, side, ...] by the mean of each area, where both sides are long enough.

    The same areas as torch's adaptive average pooling, which is MONAI's mode "area"; smaller images stay.
    """
    if side == 0 or min(pixels.shape[:2]) < side:
        return pixels
    rows, columns = _areas(pixels.shape[0], side), _areas(pixels.shape[1], side)
    if pixels.ndim == 2:
        return np.asarray(rows @ pixels @ columns.T, dtype=np.float32)
    return np.stack([shrink(pixels[..., c], side) for c in range(pixels.shape[2])], axis=-1)


@lru_cache(maxsize=64)
def _areas(length: int, side: int) -> Pixels:
    """[side, length]: which mean of neighbours each output is."""
    weights = np.zeros((side, length), dtype=np.float32)
    for i in range(side):
        begin, end = i * length // side, -((i + 1) * length // -side)
        weights[i, begin:end] = 1 / (end - begin)
    return weights
