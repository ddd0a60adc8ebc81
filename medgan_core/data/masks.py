"""Masks of a folder's images: found by an image's own name or in a manifest, and read as -1 and 1."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
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


_TOPS = frozenset({"mask", "masks", "segmentation", "segmentations", "annotation", "annotations"})


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
        """The mask of each image (file, where), "" for none: that of the same path, else of the path's end.

        It is found by an image's own name, whatever other images there are. Raises DataError where a name is
        that of two masks, or a mask's that of two images.
        """
        if self.stated is not None:
            return [self.stated.get(file, "") for file, _ in images]
        by_stem: dict[str, list[str]] = {}
        for name in self.store.files():
            by_stem.setdefault(_path(name)[-1], []).append(name)
        chosen = [_choose(*image, by_stem.get(_path(image[0])[-1], ())) for image in images]
        uses = Counter(chosen)
        for name, (_, where) in zip(chosen, images, strict=True):
            if name and uses[name] > 1:
                raise DataError(
                    f"{where}: the mask {name} may be that of another image too; name each its own"
                )
        return chosen

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


def _choose(file: str, where: str, masks: Sequence[str]) -> str:
    """The mask of an image among those of its stem: a/0 may have a/0 or 0, and 0 that of a/0, b/0 neither.

    A first folder that says "masks" counts for nothing: images/a/0 may have masks/a/0.
    """
    path = _path(file)
    fit = [name for name in masks if _path(name) == path]
    fit = fit or [name for name in masks if _ends(path, _path(name)) or _ends(_path(name), path)]
    fit = fit or [name for name in masks if _path(name)[0].lower() in _TOPS and _ends(path, _path(name)[1:])]
    if len(fit) > 1:
        raise DataError(f"{where}: {file} has more than one mask: {', '.join(fit[:3])}; leave one")
    return fit[0] if fit else ""


def _path(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).with_suffix("").parts


def _ends(path: tuple[str, ...], end: tuple[str, ...]) -> bool:
    return path[-len(end) :] == end
