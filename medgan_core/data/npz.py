"""NumPy archives: `images` and `labels`, or those of train, val and test as MedMNIST names them."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_core.config import DataConfig
from medgan_core.data.places import Place, reading
from medgan_core.data.records import Records
from medgan_core.data.tables import LABEL_COLUMNS, PATIENT_COLUMNS, read_table, reference
from medgan_core.data.transforms import SMALLEST, ValueRange, prepare
from medgan_core.errors import DataError

_SPLITS = ("train", "val", "test")
Array = NDArray[Any]


@dataclass(frozen=True)
class _Parts:
    """How many images each split has, in pooled order; the one split of a plain archive is called ""."""

    counts: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def offset(self, split: str) -> int:
        names = list(self.counts)
        return sum(self.counts[name] for name in names[: names.index(split)])

    def place(self, position: int) -> tuple[str, int]:
        for split, count in self.counts.items():
            if position < count:
                return split, position
            position -= count
        raise IndexError(position)


def read_npz(data: DataConfig, place: Place) -> Records:
    """All images of an archive. Patients and labels come from tables where the study names them."""
    arrays = _load(place, labelled=not data.labels)
    prefixes = {split: f"{split}_" if split else "" for split in _splits(arrays)}
    images = [_images(place, arrays, f"{prefix}images") for prefix in prefixes.values()]
    if len({(i.shape[1:], i.dtype.kind) for i in images}) != 1:
        raise DataError(f"{place.shown()}: the images of its splits differ in size or type")
    parts = _Parts({split: len(i) for split, i in zip(prefixes, images, strict=True)})
    pooled = np.concatenate(images)
    files = [place.path]
    keys = tuple(f"img{i}" for i in range(parts.total))
    where: Callable[[int], str]
    if data.labels:
        labels, where, file = _of_table(data.labels, LABEL_COLUMNS, place, parts)
        files.append(file)
    else:
        labels, where = _labels(place, arrays, prefixes, parts)
    patients, told = keys, None
    if data.patients:
        named, _, file = _of_table(data.patients, PATIENT_COLUMNS, place, parts)
        files.append(file)
        patients = tuple(name or key for name, key in zip(named, keys, strict=True))
        told = tuple(bool(name) for name in named)
    official = tuple(parts.place(i)[0] == "test" for i in range(parts.total))
    return Records(
        images=prepare(pooled, data, _value_range(place, pooled)),
        labels=labels,
        patients=patients,
        unit="patient" if data.patients else "image",
        where=where,
        files=tuple(files),
        official=official if "test" in parts.counts else None,
        named=told,
    )


def _load(place: Place, *, labelled: bool) -> dict[str, Array]:
    name = place.shown()
    with reading(name):
        if not zipfile.is_zipfile(place.path):
            raise DataError(f"{name} is no npz archive or is truncated; replace the file")
        with np.load(place.path, allow_pickle=False) as archive:
            wanted = [
                key for key in archive.files if key.endswith(("images", "labels") if labelled else "images")
            ]
            return {key: archive[key] for key in wanted}


def _splits(arrays: Mapping[str, Array]) -> tuple[str, ...]:
    found = tuple(split for split in _SPLITS if f"{split}_images" in arrays)
    return found or ("",)


def _images(place: Place, arrays: Mapping[str, Array], key: str) -> Array:
    if key not in arrays:
        raise DataError(
            f"{place.shown()} has no array {key}; expected images, or train_images and test_images"
        )
    images = arrays[key]
    shape = "×".join(map(str, images.shape))
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataError(
            f"{place.shown()} {key} has the shape {shape}; expected [n, h, w] or [n, h, w, 1 or 3]"
        )
    if not len(images) or min(images.shape[1:3]) < SMALLEST:
        raise DataError(
            f"{place.shown()} {key} has the shape {shape}; expected one image at least, and "
            f"{SMALLEST}×{SMALLEST} pixels"
        )
    return images


def _value_range(place: Place, images: Array) -> ValueRange:
    if images.dtype == np.uint8:
        return (0, 255)
    if images.dtype.kind != "f":
        raise DataError(
            f"{place.shown()}: images of type {images.dtype}; expected uint8, or floats in [0, 1]"
        )
    good = (images >= 0) & (images <= 1)  # false for NaN
    if not good.all():
        first = int(np.argwhere(~good)[0, 0])
        raise DataError(f"{place.shown()}: image {first} has a pixel that is no number in [0, 1]")
    return (0, 1)


def _labels(
    place: Place, arrays: Mapping[str, Array], prefixes: Mapping[str, str], parts: _Parts
) -> tuple[tuple[str, ...], Callable[[int], str]]:
    labels: list[str] = []
    for split, prefix in prefixes.items():
        key, count = f"{prefix}labels", parts.counts[split]
        if key not in arrays:
            raise DataError(f"{place.shown()} has no array {key}; expected one label for each image")
        values = arrays[key]
        if values.shape not in ((count,), (count, 1)) or values.dtype.kind not in "iubUS":
            raise DataError(
                f"{place.shown()} {key} has the shape {'×'.join(map(str, values.shape))} and the type "
                f"{values.dtype}; expected {count} integers or names, one for each image"
            )
        flat = values.ravel()
        flat = flat.astype(np.int64) if flat.dtype.kind in "iub" else flat.astype(str)
        labels += [str(value) for value in flat.tolist()]

    def where(position: int) -> str:
        split, index = parts.place(position)
        return f"{place.shown()} {prefixes[split]}labels row {index}"

    return tuple(labels), where


def _of_table(
    text: str, default: tuple[str, ...], place: Place, parts: _Parts
) -> tuple[tuple[str, ...], Callable[[int], str], Path]:
    """One value for each image from `FILE[:COLUMN]`, by (split, index), by index, or by the order of rows."""
    file, column = reference(text)
    table = read_table(place, place.beside(file))
    values = table.column(*((column,) if column else default))
    if len(values) != parts.total:
        raise DataError(
            f"{table.name} has {len(values)} rows for the {parts.total} images of {place.shown()}"
        )
    if "index" not in table.columns:
        return values, table.where, table.path
    splits = table.column("split") if "split" in table.columns else ("",) * len(table)
    row_of = [-1] * parts.total
    for row, (split, index) in enumerate(zip(splits, table.column("index"), strict=True)):
        position = _position(split, index, parts)
        if position is None or row_of[position] >= 0:
            why = (
                "names no image"
                if position is None
                else f"names the image of {table.where(row_of[position])}"
            )
            raise DataError(f"{table.where(row)}: {split} {index} {why}".replace("  ", " "))
        row_of[position] = row
    return tuple(values[row] for row in row_of), lambda i: table.where(row_of[i]), table.path


def _position(split: str, index: str, parts: _Parts) -> int | None:
    if not (index.isascii() and index.isdigit() and len(index) < 12):
        return None
    if not split:
        return int(index) if int(index) < parts.total else None
    inside = split in parts.counts and int(index) < parts.counts[split]
    return parts.offset(split) + int(index) if inside else None
