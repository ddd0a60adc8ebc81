"""What is wrong with images that are to be restored: said by a person, told the network in its own code."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from medgan_core.data.masks import binary
from medgan_core.errors import DataError, InputError
from medgan_core.gan.corruptions import BLUR, NOISE

_OPTIONS = {"noise": "--noise", "blur": "--blur", "inpaint": "--holes", "superres2": "--scale 2"}
_OPTIONS["superres4"] = "--scale 4"
_MIXED = "--noise, --blur, --holes or --scale"


@dataclass(frozen=True, eq=False)
class Damage:
    """One corruption of `gan.corruptions` and how strong it is.

    `strength`: of noise its standard deviation as a share of the range, of blur that in pixels. `holes`
    [h, w] or [n, h, w] are True where the image is missing.
    """

    corruption: str
    strength: float = 0.0
    holes: NDArray[np.bool_] | None = None

    @property
    def factor(self) -> int:
        """How much larger the result is."""
        return {"superres2": 2, "superres4": 4}.get(self.corruption, 1)

    def words(self) -> str:
        """What is undone."""
        return {
            "noise": f"noise {self.strength:g}",
            "blur": f"blur {self.strength:g} pixels",
            "inpaint": "holes filled",
        }.get(self.corruption, f"{self.factor} times the resolution")

    def inputs(self, images: Tensor) -> Tensor:
        """What a network takes of images [n, c, h, w] without holes: [n, c + 1, f·h, f·w]."""
        if self.factor > 1:
            images = interpolate(images, scale_factor=self.factor, mode="bicubic", align_corners=False)
        code = {"noise": self.strength, "blur": self.strength / BLUR[1]}.get(self.corruption, 1 / self.factor)
        return torch.cat([images, torch.full_like(images[:, :1], code)], dim=1)

    def holes_of(self, images: Tensor) -> Tensor | None:
        """The holes [n, h, w] of images [n, c, h, w]. Raises DataError where they are not as large."""
        if self.holes is None:
            return None
        holes = torch.from_numpy(np.ascontiguousarray(self.holes))
        count, size = len(images), tuple(images.shape[2:])
        if tuple(holes.shape[-2:]) != size or (holes.ndim == 3 and len(holes) != count):
            raise DataError(
                f"{count} images of {size[0]}×{size[1]} pixels, but --holes is of shape "
                f"{'×'.join(map(str, holes.shape))}: it must be as large"
            )
        return holes.expand(count, *size)


def damage_of(
    corruption: str,
    noise: float | None = None,
    blur: float | None = None,
    holes: Path | None = None,
    scale: int | None = None,
) -> Damage:
    """What the options say, of a release that undoes `corruption`. Raises InputError if they do not fit."""
    given = {"noise": noise, "blur": blur, "inpaint": holes, f"superres{scale}": scale}
    chosen = [name for name, value in given.items() if value is not None]
    if not chosen and corruption.startswith("superres"):
        return Damage(corruption)
    expected = _OPTIONS.get(corruption, f"one of {_MIXED}")
    if len(chosen) != 1:
        raise InputError(f"this release undoes {corruption}: give {expected}, and no other of {_MIXED}")
    name = chosen[0]
    if corruption not in (name, "mixed") or name not in _OPTIONS:
        option = "--scale" if name.startswith("superres") else _OPTIONS[name]
        raise InputError(f"{option} {given[name]}: this release undoes {corruption}; give {expected}")
    if name == "noise":
        return Damage(name, _between("--noise", noise, NOISE))
    if name == "blur":
        return Damage(name, _between("--blur", blur, BLUR))
    return Damage(name, holes=None if holes is None else read_holes(holes))


def read_holes(path: Path) -> NDArray[np.bool_]:
    """Where a PNG or TIFF [h, w], a NIfTI volume or the one array of an npz is not 0. Raises DataError."""
    from medgan_core.release.apply.arrays import one_array
    from medgan_core.release.apply.nifti import axial_values, is_nifti
    from medgan_core.release.apply.rasters import raster_values

    if not path.is_file():
        raise InputError(f"--holes {path.name}: no such file")
    if is_nifti(path.name):
        values: NDArray[np.generic] = axial_values(path)
    else:
        values = one_array(path) if path.suffix == ".npz" else raster_values(path.read_bytes(), path.name)
    if values.ndim == 3 and values.shape[2] == 3 and not is_nifti(path.name):
        values = values.max(axis=2)
    if values.ndim not in (2, 3):
        raise DataError(f"--holes {path.name} is of shape {values.shape}; expected [h, w] or [n, h, w]")
    return binary(values, f"--holes {path.name}")


def _between(option: str, value: float | None, limits: tuple[float, float]) -> float:
    low, high = limits
    if value is None or not low <= value <= high:
        raise InputError(f"{option} {value}: the network was trained on {low:g} to {high:g}")
    return value
