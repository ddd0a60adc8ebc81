"""NIfTI volumes as axial slices, and back: the same shape, affine and header."""

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel
import numpy as np
import torch
from nibabel import orientations
from numpy.typing import NDArray

from medgan_core.data.dicom.windows import CT_WINDOWS, linear
from medgan_core.data.places import DAMAGE
from medgan_core.data.volumes import axial, scaled
from medgan_core.data_config import DataConfig
from medgan_core.errors import DataError
from medgan_core.release.apply.pictures import SUFFIX, Made, Pictures, Scale, put_back

_SUFFIXES = (".nii.gz", ".nii")
_SAME = 1e-3
"""Entries of two affines, in mm, that count as equal."""
_BROKEN = (*DAMAGE, nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
Float = NDArray[np.float32]


def is_nifti(name: str) -> bool:
    """Whether a file is one, by its name."""
    return name.lower().endswith(_SUFFIXES)


@dataclass(eq=False)
class Volume:
    """One study: a file, or one for each modality that the network takes, registered to the first."""

    paths: Sequence[Path]
    name: str
    data: DataConfig
    _images: list[Any] = field(init=False)
    _stored: list[Float] = field(init=False)
    _units: list[Float] = field(init=False)

    def read(self) -> Pictures:
        """Its axial slices [d, m, h, w], scaled as in training."""
        self._images = [_load(path) for path in self.paths]
        first = self._images[0]
        for path, other in zip(self.paths[1:], self._images[1:], strict=True):
            _check_registered(first, other, path.name, self.paths[0].name)
        self._stored = [
            _slices(image, path.name) for image, path in zip(self._images, self.paths, strict=True)
        ]
        self._units = [self._bright(s, p.name) for s, p in zip(self._stored, self.paths, strict=True)]
        canonical = nibabel.as_closest_canonical(first)
        columns, rows = (float(mm) for mm in canonical.header.get_zooms()[:2])
        images = torch.from_numpy(np.stack(self._units, axis=1)) * 2 - 1
        names = tuple(f"slice {i}" for i in range(len(images)))
        return Pictures(images, (rows, columns), names, modalities=len(self.paths) > 1)

    def _bright(self, slices: Float, name: str) -> Float:
        """[d, h, w] in [0, 1]: by the window of a CT study, else by the volume's own percentiles."""
        data = self.data
        if data.kind == "dicom" and data.modality == "CT" and data.window != "file":
            return linear(slices, *CT_WINDOWS[data.window]).astype(np.float32)
        found = scaled(slices)
        if found is None:
            raise DataError(f"{name} has one value everywhere; expected an image")
        return np.asarray((found + 1) / 2, np.float32)

    def files(self, made: Made) -> Iterator[tuple[str, bytes]]:
        """A file for each modality, of masks (uint8) and heat maps (float32, [0, 1]) one for all."""
        if made.purpose == "segmentation":
            yield self._file(0, made.masks().astype(np.float32), np.dtype(np.uint8), made)
        elif made.purpose == "anomaly":
            yield self._file(0, made.shares()[:, 0], np.dtype(np.float32), made)
        else:
            for i, image in enumerate(self._images):
                yield self._file(i, self._put_back(i, made), image.get_data_dtype(), made)

    def _put_back(self, channel: int, made: Made) -> Float:
        stored, units = self._stored[channel], self._units[channel]
        scale = _line(stored, units)
        slices = [put_back(stored[d], units[d], scale, made, d, channel) for d in range(len(stored))]
        return np.stack(slices).astype(np.float32)

    def _file(self, channel: int, slices: Float, kind: np.dtype[Any], made: Made) -> tuple[str, bytes]:
        path = PurePosixPath(self.name).parent / self.paths[channel].name
        suffix = next(end for end in _SUFFIXES if path.name.lower().endswith(end))
        stem, ending = path.name[: -len(suffix)], path.name[-len(suffix) :]
        image = _like(self._images[channel], slices, kind, made.factor)
        body: bytes = image.to_bytes()
        packed = gzip.compress(body, mtime=0) if suffix == ".nii.gz" else body
        return (path.parent / f"{stem}{SUFFIX[made.purpose]}{ending}").as_posix(), packed


def axial_values(path: Path) -> Float:
    """The slices [d, h, w] of a volume. Raises DataError."""
    return _slices(_load(path), path.name)


def _load(path: Path) -> Any:
    try:
        image: Any = nibabel.load(path)
        shape = tuple(image.shape)
        if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape[:2]) < 1:
            raise DataError(f"{path.name} is of shape {shape}; expected one volume of three axes")
        if image.get_data_dtype().kind not in "iuf":
            raise DataError(f"{path.name} has values of type {image.get_data_dtype()}; expected real numbers")
        if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
            raise DataError(f"{path.name} has no orientation: its affine cannot be inverted")
    except _BROKEN as error:
        raise DataError(f"{path.name} cannot be read ({type(error).__name__}); replace the file") from error
    return image


def _slices(image: Any, name: str) -> Float:
    try:
        canonical = nibabel.as_closest_canonical(image)
        values = np.asarray(canonical.dataobj, np.float32).reshape(canonical.shape[:3])
    except _BROKEN as error:
        raise DataError(f"{name} cannot be read ({type(error).__name__}); replace the file") from error
    if not np.isfinite(values).all():
        raise DataError(f"{name} has values that are no numbers; expected finite ones")
    return axial(values)


def _check_registered(first: Any, other: Any, name: str, to: str) -> None:
    if first.shape != other.shape:
        raise DataError(f"{name} is not registered to {to}: shape {other.shape} differs from {first.shape}")
    if not np.allclose(first.affine, other.affine, rtol=0, atol=_SAME):
        raise DataError(f"{name} is not registered to {to}: their affines differ")


def _line(stored: Float, units: Float) -> Scale:
    """The straight line that made brightness of values, from the darkest and brightest inside of it."""
    inside = (units > 0) & (units < 1)
    values, bright = stored[inside].astype(np.float64), units[inside].astype(np.float64)
    if len(bright) < 2 or bright.max() - bright.min() < 1e-3:
        return Scale.between(float(stored.min()), float(stored.max()))
    dark, light = int(bright.argmin()), int(bright.argmax())
    slope = (values[light] - values[dark]) / (bright[light] - bright[dark])
    low = values[dark] - slope * bright[dark]
    return Scale.between(float(low), float(low + slope))


def _like(image: Any, slices: Float, kind: np.dtype[Any], factor: int) -> Any:
    """Slices [d, f·h, f·w] in the place and orientation of an image, with voxels of 1/f in the plane."""
    canonical = nibabel.as_closest_canonical(image)
    shift, zoom = np.eye(4), np.diag([1 / factor, 1 / factor, 1, 1])
    shift[:2, 3] = (1 / factor - 1) / 2  # of the first voxel's middle
    values = np.ascontiguousarray(slices[:, ::-1, ::-1].transpose(2, 1, 0))
    there = orientations.ornt_transform(
        orientations.axcodes2ornt("RAS"), orientations.io_orientation(image.affine)
    )
    made = nibabel.Nifti1Image(values, canonical.affine @ shift @ zoom).as_reoriented(there)
    affine = image.affine if factor == 1 else made.affine
    shape = (*made.shape, *image.shape[3:])
    header = image.header.copy()
    stored = image.dataobj  # nibabel's header forgets how values are scaled in the file
    plain = (getattr(stored, "slope", 1), getattr(stored, "inter", 0)) == (1, 0)
    array = np.asarray(made.dataobj, np.float32).reshape(shape)
    if kind.kind in "iu" and (plain or kind == np.uint8):
        limits = np.iinfo(kind)
        array = array.round().clip(limits.min, limits.max).astype(kind)
    result = nibabel.Nifti1Image(array, affine, header)
    result.set_data_dtype(kind)
    result.header["cal_min"] = result.header["cal_max"] = 0
    return result
