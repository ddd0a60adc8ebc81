"""MNIST's idx files, plain or gzipped, in a folder or a zip."""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan_core.config import DataConfig
from medgan_core.data.catalog import missing
from medgan_core.data.places import Place, reading
from medgan_core.data.records import Records
from medgan_core.data.transforms import SMALLEST, prepare
from medgan_core.errors import DataError

Bytes8 = NDArray[np.uint8]
_PARTS = ("train", "t10k")
_LARGEST = 2**31


def read_idx(data: DataConfig, place: Place) -> Records:
    """All images, train before t10k; the unit is the image and its key its position."""
    fetch = _from_zip(place) if place.path.is_file() else _from_folder(place)
    images, labels, names, files = [], [], [], []
    for part in _PARTS:
        pixels, source, name = _read(*fetch(f"{part}-images-idx3-ubyte"), dimensions=3)
        digits, other, label_name = _read(*fetch(f"{part}-labels-idx1-ubyte"), dimensions=1)
        if len(pixels) != len(digits):
            raise DataError(f"{label_name} has {len(digits)} labels for the {len(pixels)} images of {name}")
        images.append(pixels)
        labels.append(digits)
        names.append(label_name)
        files += [source, other]
    if images[0].shape[1:] != images[1].shape[1:]:
        raise DataError(f"{place.shown()}: images of train and t10k differ in size")
    first, count = len(images[0]), len(images[0]) + len(images[1])
    return Records(
        images=prepare(np.concatenate(images), data, (0, 255)),
        labels=tuple(str(label) for label in np.concatenate(labels).tolist()),
        patients=tuple(f"img{i}" for i in range(count)),
        unit="image",
        where=lambda i: f"{names[i >= first]} item {i - first if i >= first else i}",
        files=tuple(dict.fromkeys(files)),
        official=(False,) * first + (True,) * (count - first),
    )


Found = tuple[bytes, Path, str]


def _from_folder(place: Place) -> Callable[[str], Found]:
    def fetch(name: str) -> Found:
        for path in (place.path / f"{name}.gz", place.path / name):
            if path.is_file():
                with reading(place.shown(path)):
                    return path.read_bytes(), path, place.shown(path)
        raise missing(place.shown(place.path / f"{name}.gz"))

    return fetch


def _from_zip(place: Place) -> Callable[[str], Found]:
    def fetch(name: str) -> Found:
        with reading(place.shown()), zipfile.ZipFile(place.path) as archive:
            for member in archive.namelist():
                if member.rpartition("/")[2] in (name, f"{name}.gz"):
                    return archive.read(member), place.path, f"{place.shown()}/{member}"
        raise DataError(f"{place.shown()} holds no {name} and no {name}.gz")

    return fetch


def _read(raw: bytes, path: Path, name: str, *, dimensions: int) -> tuple[Bytes8, Path, str]:
    with reading(name):
        stream = io.BytesIO(raw)
        file = gzip.open(stream) if raw[:2] == b"\x1f\x8b" else stream  # noqa: SIM115
        magic, *shape = struct.unpack(f">{1 + dimensions}I", file.read(4 * (1 + dimensions)))
        if magic != 0x0800 + dimensions:
            raise DataError(f"{name}: magic number {magic}, expected {0x0800 + dimensions}")
        size = int(np.prod(shape, dtype=np.float64))
        if not 0 < size < _LARGEST:
            raise DataError(f"{name}: {'×'.join(map(str, shape))} values; expected a set that is not empty")
        if dimensions == 3 and min(shape[1:]) < SMALLEST:
            raise DataError(
                f"{name}: images of {shape[1]}×{shape[2]} pixels; expected {SMALLEST}×{SMALLEST} or more"
            )
        body = file.read(size + 1)  # one more than there may be: up to the end, where gzip checks its sum
    if len(body) != size:
        raise DataError(f"{name} is truncated or too long: expected {size} bytes after the header")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape), path, name
