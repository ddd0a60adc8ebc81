"""NumPy archives: every array whose name ends in "images", or the only one that there is."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medgan_core.data.places import reading
from medgan_core.data.transforms import SMALLEST
from medgan_core.errors import DataError
from medgan_core.release.apply.pictures import Made, Pictures, Scale, put_back

_KEY = "images"
_NAMED = {"segmentation": "masks", "anomaly": "heat", "restoration": _KEY, "translation": _KEY}
Array = NDArray[Any]


@dataclass(eq=False)
class Archive:
    """One npz, with all of its arrays of images: `<name>images`, or the only array."""

    path: Path
    name: str
    _arrays: dict[str, Array] = field(init=False)
    _pictures: Pictures = field(init=False)

    def read(self) -> Pictures:
        """All images of all arrays, which must be of one size; [n, h, w] or [n, h, w, 1 or 3]."""
        with reading(self.name):
            self._arrays = _load(self.path, self.name)
        images = [_unit(array, f"{self.name} {key}") for key, array in self._arrays.items()]
        if len({part.shape[1:] for part in images}) != 1:
            raise DataError(f"{self.name}: its arrays differ in size; give each a file of its own")
        names = tuple(f"{key}[{i}]" for key, array in self._arrays.items() for i in range(len(array)))
        self._pictures = Pictures(torch.from_numpy(np.concatenate(images)) * 2 - 1, None, names)
        return self._pictures

    def files(self, made: Made) -> Iterator[tuple[str, bytes]]:
        """One npz: `masks` uint8, `images` in the file's type, or `heat` and `scores` float32 in [0, 1]."""
        found: dict[str, Array] = {}
        first = 0
        for key, array in self._arrays.items():
            prefix = key.removesuffix(_KEY) if key.endswith(_KEY) else f"{key}_"
            part = slice(first, first + len(array))
            named = key if _NAMED[made.purpose] == _KEY else prefix + _NAMED[made.purpose]
            found[named] = self._put_back(array, made, first)
            if made.scores is not None:
                found[f"{prefix}scores"] = made.scores[part].numpy().astype(np.float32)
            first = part.stop
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **found)
        yield self.name, stream.getvalue()

    def _put_back(self, array: Array, made: Made, first: int) -> Array:
        part = slice(first, first + len(array))
        if made.purpose == "segmentation":
            return made.masks()[part]
        if made.purpose == "anomaly":
            return made.shares()[part, 0]
        units, top = _unit(array, self.name), 255 if array.dtype == np.uint8 else 1
        scale, stored = Scale.between(0, top), units * np.float64(top)
        values = np.stack(
            [
                [
                    put_back(stored[i, c], units[i, c], scale, made, first + i, c)
                    for c in range(stored.shape[1])
                ]
                for i in range(len(array))
            ]
        ).clip(0, top)
        values = (values.round() if top == 255 else values).astype(array.dtype)
        return values[:, 0] if array.ndim == 3 else np.moveaxis(values, 1, -1)


def one_array(path: Path) -> Array:
    """The only array of an archive. Raises DataError where there are others."""
    with reading(path.name), np.load(path, allow_pickle=False) as archive:
        if len(archive.files) != 1:
            raise DataError(f"{path.name} holds {len(archive.files)} arrays; expected one")
        return np.asarray(archive[archive.files[0]])


def _load(path: Path, name: str) -> dict[str, Array]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{name} is no npz archive or is truncated; replace the file")
    with np.load(path, allow_pickle=False) as archive:
        keys = [key for key in archive.files if key.endswith(_KEY)]
        if not keys and len(archive.files) == 1:
            keys = archive.files
        if not keys:
            raise DataError(f"{name} has no array {_KEY}; expected one, or several that end so")
        return {key: archive[key] for key in keys}


def _unit(array: Array, name: str) -> NDArray[np.float32]:
    """[n, c, h, w] in [0, 1]. Raises DataError."""
    shape = "×".join(map(str, array.shape))
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise DataError(f"{name} has the shape {shape}; expected [n, h, w] or [n, h, w, 1 or 3]")
    if not len(array) or min(array.shape[1:3]) < SMALLEST:
        raise DataError(f"{name} has the shape {shape}; expected one image, of 8×8 pixels at least")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise DataError(f"{name} is of type {array.dtype}; expected uint8, or floats in [0, 1]")
    values = array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
    if not ((values >= 0) & (values <= 1)).all():  # false for NaN
        raise DataError(f"{name} has values that are no numbers in [0, 1]")
    return np.ascontiguousarray(values[:, None] if array.ndim == 3 else np.moveaxis(values, -1, 1))
