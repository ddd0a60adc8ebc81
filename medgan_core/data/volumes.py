"""Volumes as slices: intensity, body, square slices, and patches of several slices.

Each is a function of one volume alone. Slices lie as in axial DICOM images: rows run from front to back,
columns from the patient's right to left; slices from feet to head.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

BODY_SHARE = 0.05
"""Of a slice's pixels, that must show the body."""
_FLOOR, _CEILING, _BODY = 1.0, 99.5, 0.1
"""Percentiles of the volume, and of what lies above the first; the body begins a tenth of the way up."""
_MEDIANS = 2.5
"""Of the body's values, above which all is white: fat around a head would leave its brain dark."""


T = TypeVar("T")


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly spread over the order; all of them for 0."""
    if not most or len(items) <= most:
        return list(items)
    return [items[(2 * i + 1) * len(items) // (2 * most)] for i in range(most)]


def axial(volume: NDArray[np.generic]) -> NDArray[np.float32]:
    """A volume of NIfTI's canonical axes (right, front, head) as slices [d, h, w]."""
    slices: NDArray[np.float32] = np.ascontiguousarray(volume.transpose(2, 1, 0)[:, ::-1, ::-1], np.float32)
    return slices


def scaled(volume: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Values in [-1, 1], the background at -1, by this volume's robust percentiles; None if all are alike."""
    floor = float(np.percentile(volume, _FLOOR))
    above = volume[volume > floor]
    if not above.size:
        return None
    span = float(np.percentile(above, _CEILING)) - floor
    body = above[above > floor + _BODY * span]
    ceiling = floor + min(span, _MEDIANS * (float(np.median(body)) - floor))
    result: NDArray[np.float32] = np.clip((volume - floor) / (ceiling - floor), 0, 1) * 2 - 1
    return result


def with_body(slices: NDArray[np.float32]) -> NDArray[np.intp]:
    """The positions of scaled slices [d, h, w] that show the body on a share of their pixels."""
    return np.flatnonzero((slices > 2 * _BODY - 1).mean(axis=(1, 2)) >= BODY_SHARE)


def square(slices: Tensor, spacing: tuple[float, float], side: int, *, mask: bool = False) -> Tensor:
    """Slices [d, h, w] with pixels of `spacing` mm (rows, columns) as [d, side, side], padded with -1.

    The longer side of a slice fills the square. Anti-aliased; of a `mask` the nearest values are taken.
    """
    millimetres = [n * mm for n, mm in zip(slices.shape[1:], spacing, strict=True)]
    rows, columns = (max(1, round(side * length / max(millimetres))) for length in millimetres)
    how = {"mode": "nearest-exact"} if mask else {"mode": "bilinear", "antialias": True}
    resized = interpolate(slices[:, None], size=(rows, columns), **how)[:, 0].clamp(-1, 1)
    top, left = (side - rows) // 2, (side - columns) // 2
    return pad(resized, (left, side - columns - left, top, side - rows - top), value=-1.0)


def windows(count: int, depth: int, most: int) -> list[tuple[float, float]]:
    """Where patches of `depth` slices begin and end, as shares of `count` slices.

    k patches cover 2/(k + 1) of the volume each and begin at even steps, so that neighbours share half. As
    many as are asked for, but none with fewer slices than `depth`; a single one covers all.
    """
    patches = max(1, min(most, 2 * count // depth - 1))
    length = 2 / (patches + 1)
    return [(i * length / 2, i * length / 2 + length) for i in range(patches)]


def patches(slices: Tensor, depth: int, most: int) -> Tensor:
    """Slices [n, s, s] as patches [p, depth, s, s], resampled along the first axis and anti-aliased."""
    count, side, _ = slices.shape
    made = []
    for begin, end in windows(count, depth, most):
        first = min(round(begin * count), count - 1)
        part = slices[first : max(first + 1, round(end * count))].reshape(1, 1, -1, side * side)
        resized = interpolate(part, size=(depth, side * side), mode="bilinear", antialias=True)
        made.append(resized.reshape(depth, side, side).clamp(-1, 1))
    return torch.stack(made)
