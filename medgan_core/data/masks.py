"""Masks of a folder's images: found by the stem of an image's name or in a manifest, and read as -1 and 1."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from medgan_core.config import DataConfig
from medgan_core.data.places import Place, inside
from medgan_core.data.store import FORMATS, Store, open_store
from medgan_core.data.tables import read_table, reference
from medgan_core.errors import DataError

_COUNTED = ("1", "L", "P", "I", "F")
"""Modes of one channel, whose values are taken as they are: 16 bits begin with an I."""


@dataclass(frozen=True)
class Masks:
    """The masks of a set. `stated` are the names that a manifest gives to images, None where stems decide.

    `shown` is what errors call their place, `tables` are the files that were read to find them, and `apart`
    is where they lie if it is not among the images.
    """

    store: Store
    shown: str
    stated: Mapping[str, str] | None = None
    tables: tuple[Path, ...] = ()
    apart: Path | None = None

    def of(self, images: Sequence[tuple[str, str]]) -> list[str]:
        """The mask of each image (file, where), "" for none: by the same path, else by the same stem.

        Raises DataError where a name is that of two masks, or a mask's that of two images.
        """
        if self.stated is not None:
            return [self.stated.get(file, "") for file, _ in images]
        files = [file for file, _ in images]
        same_path = _Names.of(self.store.files(), files, _path)
        free = (name for name in self.store.files() if _path(name) not in same_path.images)
        same_stem = _Names.of(free, files, _stem)
        return [same_path.of_image(*image) or same_stem.of_image(*image) for image in images]

    def read(self, name: str, where: str) -> tuple[NDArray[np.bool_], Path]:
        """A mask [h, w] and the file on disk that it is from. Raises DataError for one that is not binary."""
        raw, path = self.store.read(name, where)
        try:
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                plain = image if image.mode.startswith(_COUNTED) else image.convert("L")
                values = np.asarray(plain)
        except (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{where}: the mask {name} cannot be decoded; expected a PNG") from error
        return binary(values, f"{where}: the mask {name}"), path


def open_masks(data: DataConfig, place: Place, stack: ExitStack) -> Masks:
    """The masks that a study names: a zip, a folder, or a column of a manifest. Raises DataError for none."""
    file, column = reference(data.masks)
    if column:
        table = read_table(place, place.beside(file))
        stated = dict(zip(table.distinct("file"), table.column(column), strict=True))
        return Masks(open_store(place, stack), f"{table.name}:{column}", stated, (table.path,))
    folder = place.folder / data.masks
    found = folder if inside(data.masks) and folder.is_dir() else place.beside(data.masks)
    its = Place(place.root, found)
    return Masks(open_store(its, stack), its.shown(), apart=found)


def binary(values: NDArray[Any], what: str) -> NDArray[np.bool_]:
    """Where a mask is: its values other than 0. Raises DataError for more than two values."""
    low, high = values.min(), values.max()
    if (low != 0 and low != high) or ((values != low) & (values != high)).any():
        kinds = np.unique(values)
        shown = ", ".join(f"{kind:g}" for kind in kinds[:3].tolist())
        raise DataError(
            f"{what} is not binary: it has {len(kinds)} values ({shown}{', …' if len(kinds) > 3 else ''}); "
            "expected 0 and one other"
        )
    mask: NDArray[np.bool_] = values != 0
    return mask


def nearest(mask: NDArray[np.bool_], side: int) -> Tensor:
    """A mask [h, w] as [side, side] of -1 and 1: the value at each pixel's middle."""
    signed = torch.from_numpy(mask)[None, None].float() * 2 - 1
    return interpolate(signed, size=(side, side), mode="nearest-exact")[0, 0]


@dataclass(frozen=True)
class _Names:
    """Masks by a part of their names, and how many images have that part."""

    part: Callable[[str], str]
    masks: Mapping[str, Sequence[str]]
    images: Mapping[str, int]

    @classmethod
    def of(cls, masks: Iterable[str], images: Iterable[str], part: Callable[[str], str]) -> "_Names":
        found: dict[str, list[str]] = {}
        for name in masks:
            found.setdefault(part(name), []).append(name)
        return cls(part, found, Counter(map(part, images)))

    def of_image(self, file: str, where: str) -> str:
        found = self.masks.get(self.part(file), ())
        if not found:
            return ""
        if len(found) > 1:
            raise DataError(f"{where}: {file} has more than one mask: {', '.join(found[:3])}; leave one")
        if self.images[self.part(file)] > 1:
            raise DataError(
                f"{where}: the mask {found[0]} may be that of another image too; name each its own"
            )
        return found[0]


def _path(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _stem(name: str) -> str:
    return PurePosixPath(name).stem
