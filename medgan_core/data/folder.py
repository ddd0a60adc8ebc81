"""Folders of images: class by class, or by a manifest; loose or in zips, with masks or without."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from medgan_core.config import DataConfig
from medgan_core.data.listing import Row, list_rows
from medgan_core.data.masks import Masks, nearest, open_masks
from medgan_core.data.places import Place
from medgan_core.data.records import Left, Records
from medgan_core.data.store import FORMATS, Store, open_store
from medgan_core.data.transforms import SMALLEST, prepare_each
from medgan_core.errors import DataError

_THREADS = 2
_SIXTEEN = 65535


def read_folder(data: DataConfig, place: Place) -> Records:
    """All images of a folder, as its manifest or its class folders say; those with a mask if asked for.

    Raises DataError where masks are asked for and no image has one.
    """
    if data.masks:
        return _read_with_masks(data, place)
    with ExitStack() as stack:
        store = open_store(place, stack)
        listing = list_rows(data, place, store)
        files: list[Path] = []

        def decoded() -> Iterator[NDArray[np.uint8]]:
            with ThreadPoolExecutor(_THREADS) as pool:
                for pixels, path in pool.map(lambda row: _decode(store, row, data), listing.rows):
                    files.append(path)
                    yield pixels

        images = prepare_each(decoded(), len(listing.rows), data, (0, 255))
    patients = tuple(row.key for row in listing.rows)
    return listing.records(images, patients, tuple(files))


def _read_with_masks(data: DataConfig, place: Place) -> Records:
    with ExitStack() as stack:
        masks = open_masks(data, place, stack)
        store = open_store(place, stack, masks.apart)
        listing = list_rows(data, place, store)
        names = masks.of([(row.file, row.where) for row in listing.rows])
        pairs = list(zip(listing.rows, names, strict=True))
        kept = [(row, name) for row, name in pairs if name]
        if not kept:
            raise DataError(f"{place.shown()}: no image has a mask in {masks.shown}")
        drawn = torch.empty(len(kept), 1, data.image_size, data.image_size)
        files: list[Path] = []

        def decoded() -> Iterator[NDArray[np.uint8]]:
            with ThreadPoolExecutor(_THREADS) as pool:
                found = pool.map(lambda pair: _decode_pair(store, masks, pair[0], pair[1], data), kept)
                for i, (pixels, mask, paths) in enumerate(found):
                    drawn[i, 0] = mask
                    files.extend(paths)
                    yield pixels

        images = prepare_each(decoded(), len(kept), data, (0, 255))
    rows = tuple(row for row, _ in kept)
    records = replace(listing, rows=rows).records(
        torch.cat([images, drawn], dim=1), tuple(row.key for row in rows), (*masks.tables, *files)
    )
    why = f"no mask in {masks.shown}"
    return replace(records, left_out=tuple(Left(why, row.site) for row, name in pairs if not name))


def _decode_pair(
    store: Store, masks: Masks, row: Row, name: str, data: DataConfig
) -> tuple[NDArray[np.uint8], Tensor, tuple[Path, Path]]:
    """An image, and its mask [s, s] of -1 and 1."""
    pixels, path = _decode(store, row, data)
    mask, mask_path = masks.read(name, row.where)
    size = image_size(store.read(row.file, row.where)[0])
    if mask.shape != size:
        (height, width), (rows, columns) = mask.shape, size
        raise DataError(
            f"{row.where}: the mask {name} is of {height}×{width} pixels, its image of {rows}×{columns}"
        )
    return pixels, nearest(mask, data.image_size), (path, mask_path)


def image_size(raw: bytes) -> tuple[int, int]:
    """Height and width of an image that can be decoded, as its file says."""
    with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
        return image.height, image.width


def _decode(store: Store, row: Row, data: DataConfig) -> tuple[NDArray[np.uint8], Path]:
    raw, path = store.read(row.file, row.where)
    try:
        return decode_image(raw, data), path
    except DataError as error:
        raise DataError(f"{row.where}: {row.file} {error}") from error


def decode_image(raw: bytes, data: DataConfig) -> NDArray[np.uint8]:
    """A PNG, JPEG, BMP or TIFF as uint8 [h, w] or [h, w, 3], as the study's channels say."""
    mode = "L" if data.channels == 1 else "RGB"
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            if getattr(image, "n_frames", 1) != 1:
                raise DataError("has more than one frame; expected a single image")
            if min(image.size) < SMALLEST:
                raise DataError(
                    f"is of {image.height}×{image.width} pixels; expected at least {SMALLEST}×{SMALLEST}"
                )
            if min(image.size) >= data.image_size:
                image.draft(mode, (data.image_size, data.image_size))
            return _to_bytes(image, mode)
    except (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError("cannot be decoded; expected a PNG, JPEG, BMP or TIFF that is not damaged") from error


def _to_bytes(image: Image.Image, mode: str) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip instead of scale
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > _SIXTEEN:
            raise DataError("has pixels of more than 16 bits; expected 8 or 16")
        grey = (deep.astype(np.float32) / 257).round().astype(np.uint8)
        return grey if mode == "L" else np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise DataError("has floating-point pixels; expected 8 or 16 bits")
    return np.asarray(image.convert(mode))
