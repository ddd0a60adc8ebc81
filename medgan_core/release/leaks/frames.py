"""Frames of any file that holds images, and how alike two of them are.

A copy is found by a hash of its values. One that was scaled, turned, brightened or compressed is found by the
correlation of what is left of a small picture of it once its coarse shading is taken away: shading is what
any two chests have in common.
"""

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom.pixels.utils import pixel_array

from medgan_core.release.leaks.values import parsed

SIDE = 32
ALIKE = 0.9
"""Correlation from which two frames are told to be nearly the same."""
_COARSE = 8
_TURNS = 8
_AT_ONCE = 512
Thumb = NDArray[np.float32]


@dataclass
class Prints:
    """Hashes and small pictures [n, 1024] of frames."""

    hashes: set[bytes] = field(default_factory=set)
    thumbs: list[Thumb] = field(default_factory=list)
    frames: int = 0

    def add(self, frame: NDArray[Any]) -> None:
        """Take the prints of a frame [h, w] or [h, w, 3]; one of a single value has none."""
        self.frames += 1
        if frame.min() == frame.max():
            return
        self.hashes.add(hash_of(frame))
        thumb = small(frame)
        if thumb is not None:
            self.thumbs.append(thumb.ravel())

    def stacked(self) -> Thumb:
        """All small pictures [n, 1024]."""
        return np.stack(self.thumbs) if self.thumbs else np.zeros((0, SIDE * SIDE), np.float32)


def hash_of(frame: NDArray[Any]) -> bytes:
    """SHA-256 of the shape and the values, whatever type holds them."""
    values = np.ascontiguousarray(frame, np.float64)
    return sha256(repr(values.shape).encode() + values.tobytes()).digest()


def small(frame: NDArray[Any]) -> Thumb | None:
    """[32, 32] of mean 0 and length 1, without coarse shading; None of what is nearly even."""
    grey = frame.astype(np.float32)
    grey = grey.mean(axis=-1) if grey.ndim == 3 else grey
    picture = Image.fromarray(grey)
    fine = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    shade = Image.fromarray(fine).resize((_COARSE, _COARSE), Image.Resampling.BOX)
    fine = fine - np.asarray(shade.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    fine = fine - fine.mean()
    length = float(np.linalg.norm(fine))
    return None if length <= 1e-3 * float(grey.max() - grey.min()) * SIDE else fine / length


def alike(new: Thumb, real: Thumb) -> NDArray[np.float32]:
    """The largest correlation [n] of each of `new` [n, 1024] with `real` [m, 1024], turned and mirrored."""
    best = np.full(len(new), -1, np.float32)
    if not len(real) or not len(new):
        return best
    pictures = real.reshape(-1, SIDE, SIDE)
    for start in range(0, len(new), _AT_ONCE):
        part = new[start : start + _AT_ONCE].reshape(-1, SIDE, SIDE)
        for turn in range(_TURNS):
            turned = np.rot90(part if turn < 4 else part[:, :, ::-1], turn % 4, axes=(1, 2))
            for at in range(0, len(pictures), 8 * _AT_ONCE):
                other = pictures[at : at + 8 * _AT_ONCE].reshape(-1, SIDE * SIDE)
                found = (turned.reshape(len(part), -1) @ other.T).max(axis=1)
                best[start : start + len(part)] = np.maximum(best[start : start + len(part)], found)
    return best


def frames_of(content: bytes) -> Iterator[NDArray[Any]]:
    """The frames of a DICOM, PNG, JPEG or TIFF file, or of the images in npy and npz; nothing of others."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield from _frames(content)
    except Exception:  # a file that claims to be an image and is none has no frames
        return


def _frames(content: bytes) -> Iterator[NDArray[Any]]:
    dataset = parsed(content)
    if dataset is not None:
        if "PixelData" in dataset:
            values = pixel_array(dataset)
            colour = int(dataset.get("SamplesPerPixel") or 1) == 3
            yield from values if values.ndim == (4 if colour else 3) else values[None]
        return
    if content[:6] == b"\x93NUMPY":
        yield from _of_array(np.load(io.BytesIO(content), allow_pickle=False))
        return
    try:
        with Image.open(io.BytesIO(content)) as picture:
            yield np.asarray(picture)
    except UnidentifiedImageError:
        return


def _of_array(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    if values.dtype.kind not in "iuf" or values.ndim < 2 or min(values.shape[-2:]) < 3:
        return
    yield from values if values.ndim > 2 else values[None]
