"""Text burned into pixels, looked for at native resolution by Tesseract.

Writing is brighter or darker than anything else in an image: what is saturated is kept, in both polarities.
What Tesseract does not find, such as handwriting, stays unseen.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from medgan_core.data.dicom.reasons import QuarantineError, Refusal

CHECKED_KINDS = frozenset({"US", "SC", "XC", "CR", "DX", "MG", "XA", "RF", "ES", "OP", "IO"})
"""Kinds whose every image is looked at; of a CT, MR, PT or NM series one image is."""
SECONDS = 20
"""The longest that one look may take."""
SURE, LIKELY = 60.0, 50.0
"""Of 100: how sure Tesseract is of a word for which an image is refused, or that is blanked at least."""
_WORD = re.compile(r"[^\W_]{3,}")
_EDGE = 0.02
_MOST = 0.3
_LEAST = 24  # pixels: no word of three letters that anybody could read is smaller
_PAPER, _MARGIN = 16, 3
_CONFIG = "--psm 11 --oem 1"
_COLUMNS = ("text", "conf", "left", "top", "width", "height")


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows top to bottom, columns left to right, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


@cache
def can_look() -> bool:
    """Whether the program is installed."""
    return shutil.which("tesseract") is not None


def has_text(shown: NDArray[np.generic]) -> bool:
    """Whether a frame [h, w] or [h, w, 3], as it looks, has a word of three letters or digits in its pixels.

    Raises QuarantineError where it cannot be told.
    """
    return next(find_text(shown, SURE), None) is not None


def find_text(shown: NDArray[np.generic], sure: float = LIKELY) -> Iterator[Box]:
    """A box around each word of three letters or digits in a frame. Raises QuarantineError as `has_text`."""
    if not can_look():
        raise QuarantineError(Refusal.TEXT_UNCHECKED, "tesseract is not installed")
    grey = _grey(shown)
    if min(grey.shape) < _LEAST:
        return
    for mask in (grey >= 1 - _EDGE, grey <= _EDGE):
        if 0 < mask.mean() < _MOST:
            yield from _words(mask, sure)


def _grey(stored: NDArray[np.generic]) -> NDArray[np.float32]:
    """[h, w] over the image's own range, [0, 1]."""
    values = stored.astype(np.float32)
    if values.ndim == 3:
        values = values.mean(axis=2)
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-6)


def _words(mask: NDArray[np.bool_], sure: float) -> Iterator[Box]:
    """Of a page black on white with a margin, which Tesseract likes best."""
    import pytesseract  # takes a second, and most workers never look

    page = np.pad(np.where(mask, 0, 255).astype(np.uint8), _PAPER, constant_values=255)
    try:
        found = pytesseract.image_to_data(
            page, config=_CONFIG, timeout=SECONDS, output_type=pytesseract.Output.DICT
        )
    except (RuntimeError, OSError, pytesseract.TesseractError) as error:
        raise QuarantineError(Refusal.TEXT_UNCHECKED, type(error).__name__) from None
    for text, confidence, left, top, width, height in zip(*(found[name] for name in _COLUMNS), strict=True):
        if _WORD.search(str(text)) and float(confidence) >= sure:
            yield _box(top - _PAPER, left - _PAPER, height, width)


def _box(top: int, left: int, height: int, width: int) -> Box:
    rows, columns = (top - _MARGIN, top + height + _MARGIN), (left - _MARGIN, left + width + _MARGIN)
    return Box(max(0, rows[0]), max(0, rows[1]), max(0, columns[0]), max(0, columns[1]))
