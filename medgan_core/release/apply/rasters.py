"""PNG, JPEG, BMP and TIFF: one image each, of 8 or 16 bits, grey or in colours."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from medgan_core.data.store import FORMATS
from medgan_core.data.transforms import SMALLEST
from medgan_core.errors import DataError
from medgan_core.release.apply.pictures import SUFFIX, Made, Pictures, Scale, overlay, put_back

_SIXTEEN = 65535


@dataclass(eq=False)
class Raster:
    """One file. Its output has the same name and is a PNG, or a TIFF of a TIFF: JPEG would spoil it again."""

    path: Path
    name: str
    _stored: NDArray[Any] = field(init=False)
    _pictures: Pictures = field(init=False)

    def read(self) -> Pictures:
        """[1, 1 or 3, h, w]; transparency is left out."""
        self._stored = raster_values(self.path.read_bytes(), self.name)
        channels = torch.from_numpy(_unit(self._stored)) * 2 - 1
        self._pictures = Pictures(channels[None], None, (self.name,))
        return self._pictures

    def files(self, made: Made) -> Iterator[tuple[str, bytes]]:
        """A mask of 0 and 255, an image of the file's own bits, or the image with its heat map."""
        path = PurePosixPath(self.name)
        tiff = path.suffix.lower() in (".tif", ".tiff")
        name = path.with_name(f"{path.stem}{SUFFIX[made.purpose]}{path.suffix if tiff else '.png'}")
        stream = io.BytesIO()
        Image.fromarray(self._drawn(made)).save(stream, format="TIFF" if tiff else "PNG")
        yield name.as_posix(), stream.getvalue()

    def _drawn(self, made: Made) -> NDArray[Any]:
        if made.purpose == "segmentation":
            return np.asarray(made.masks()[0] * np.uint8(255))
        if made.purpose == "anomaly":
            return overlay(self._pictures.images[0], made.outputs[0, 0])
        stored = _channels(self._stored)
        top, units = _top(self._stored), _unit(self._stored)
        scale = Scale.between(0, top)
        parts = [
            put_back(s, u, scale, made, 0, i) for i, (s, u) in enumerate(zip(stored, units, strict=True))
        ]
        values = np.stack(parts, axis=-1).round().clip(0, top).astype(self._stored.dtype)
        return values[..., 0] if self._stored.ndim == 2 else values


def raster_values(raw: bytes, name: str) -> NDArray[Any]:
    """uint8 or uint16 [h, w], or uint8 [h, w, 3]. Raises DataError."""
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            if getattr(image, "n_frames", 1) != 1:
                raise DataError(f"{name} has more than one frame; expected a single image")
            if min(image.size) < SMALLEST:
                raise DataError(f"{name} is of {image.height}×{image.width} pixels; expected 8×8 at least")
            return _decoded(image, name)
    except (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be decoded; expected a PNG, JPEG, BMP or TIFF") from error


def _decoded(image: Image.Image, name: str) -> NDArray[Any]:
    if image.mode.startswith("I"):
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > _SIXTEEN:
            raise DataError(f"{name} has pixels of more than 16 bits; expected 8 or 16")
        return deep.astype(np.uint16)
    if image.mode == "F":
        raise DataError(f"{name} has floating-point pixels; expected 8 or 16 bits")
    grey = image.mode in ("1", "L", "LA", "La")
    return np.asarray(image.convert("L" if grey else "RGB"))


def _top(stored: NDArray[Any]) -> int:
    return _SIXTEEN if stored.dtype == np.uint16 else 255


def _channels(stored: NDArray[Any]) -> NDArray[Any]:
    return stored[None] if stored.ndim == 2 else stored.transpose(2, 0, 1)


def _unit(stored: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(_channels(stored) / np.float32(_top(stored)), np.float32)
