"""Folders of NIfTI volumes: registered modalities of a study become the channels of its slices.

A file is called `<patient>_<anything>_<MODALITY>.nii.gz`. What is before the first underscore, with the
first folder below the set's, is the patient; what is before the last one, with all folders, the study. So
studies of one patient have one key, and no patient has two, unless a person sorted studies by their date
into the set's first folders.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan_core.config import DataConfig
from medgan_core.data.masks import binary
from medgan_core.data.places import DAMAGE, Place
from medgan_core.data.records import LABEL, Left, Records
from medgan_core.data.volumes import axial, patches, scaled, spread, square, with_body
from medgan_core.data_config import modality_of
from medgan_core.errors import DataError

_SUFFIXES = (".nii", ".nii.gz")
_MOST_VOXELS = 1 << 28
_SAME = 1e-3
"""Entries of two affines, in mm, that count as equal."""


@dataclass(frozen=True)
class Scan:
    """The volumes of one study, by modality; `name` is as errors call it."""

    name: str
    patient: str
    files: dict[str, Path]


@dataclass(frozen=True)
class _Volume:
    """Canonical values [x, y, z], the affine [4, 4], and mm of a voxel."""

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]


@dataclass(frozen=True)
class _Drawn:
    """One image [c, s, s]; `where` is how errors call it."""

    image: Tensor
    where: str


def read_nifti(data: DataConfig, place: Place) -> Records:
    """All studies that have what is asked for, as axial slices or as patches of a volume.

    Raises DataError, which names the file, for a volume that cannot be read, is not registered to the others
    of its study, or shows nothing; and where no study has all that is asked for.
    """
    wanted = [modality_of(name) for name in (*data.modalities, *((data.masks,) if data.masks else ()))]
    scans = _scans(place, wanted)
    whole = [scan for scan in scans if all(name in scan.files for name in wanted)]
    if not whole:
        raise DataError(f"{place.shown()}: no study has {_missing(scans, wanted)}")
    by_patient: dict[str, list[_Drawn]] = {}
    for scan in whole:
        by_patient.setdefault(scan.patient, []).extend(_draw(scan, wanted, data, place))
    kept = [(key, one) for key, found in by_patient.items() for one in spread(found, data.slices_per_patient)]
    label = data.classes[0] if data.classes else LABEL
    return Records(
        images=torch.stack([one.image for _, one in kept]),
        labels=(label,) * len(kept),
        patients=tuple(key for key, _ in kept),
        unit="patient",
        where=lambda i: kept[i][1].where,
        files=tuple(scan.files[name] for scan in whole for name in wanted),
        left_out=tuple(_left(scan, wanted) for scan in scans if scan not in whole),
    )


def _scans(place: Place, wanted: Sequence[str]) -> list[Scan]:
    """Every study below the folder with the files of it that are asked for, in the order of their names."""
    if not place.path.is_dir():
        raise DataError(f"{place.shown()} is no folder; expected one of .nii or .nii.gz files")
    found: dict[str, Scan] = {}
    for path in sorted(place.path.rglob("*")):
        name = PurePosixPath(path.relative_to(place.path).as_posix())
        stem = _stem(name)
        study, _, modality = stem.rpartition("_")
        if not stem or modality_of(modality) not in wanted or any(p.startswith(".") for p in name.parts):
            continue
        _check_place(path, place, study)
        patient = "/".join((*name.parts[:-1][:1], stem.partition("_")[0]))
        key = (name.parent / study).as_posix()
        files = found.setdefault(key, Scan(place.shown(place.path / key), patient, {})).files
        if files.setdefault(modality_of(modality), path) != path:
            other = files[modality_of(modality)].name
            raise DataError(f"{place.shown(path)}: {other} is the same modality of this study; leave one")
    return list(found.values())


def _check_place(path: Path, place: Place, study: str) -> None:
    if not path.resolve().is_relative_to(place.path.resolve()):
        raise DataError(f"{place.shown(path)} is a link that leaves the folder of the set")
    if not study or study.startswith("_"):
        raise DataError(
            f"{place.shown(path)} names no patient; expected <patient>_<modality>.nii.gz, as 07_T1.nii.gz"
        )


def _stem(name: PurePosixPath) -> str:
    """A volume's name without its suffix, "" for other files."""
    suffix = next((end for end in reversed(_SUFFIXES) if name.name.lower().endswith(end)), "")
    return name.name[: -len(suffix)] if suffix else ""


def _missing(scans: Sequence[Scan], wanted: Sequence[str]) -> str:
    never = [name for name in wanted if not any(name in scan.files for scan in scans)]
    if never:
        return f"{' and '.join(never)}; expected files named <patient>_…_{never[0]}.nii.gz"
    return (
        f"all of {', '.join(wanted)} together: {'; '.join(_left(scan, wanted).reason for scan in scans[:3])}"
    )


def _left(scan: Scan, wanted: Sequence[str]) -> Left:
    return Left(f"a study without {', '.join(name for name in wanted if name not in scan.files)}")


def _draw(scan: Scan, wanted: Sequence[str], data: DataConfig, place: Place) -> Iterator[_Drawn]:
    """The images of one study."""
    volumes = [_volume(scan.files[name], place) for name in wanted]
    for name, volume in zip(wanted[1:], volumes[1:], strict=True):
        _check_registered(scan, (wanted[0], volumes[0]), (name, volume), place)
    columns, rows, _ = volumes[0].spacing
    channels: list[Tensor] = []
    body = np.empty(0, np.intp)
    for name, volume in zip(wanted, volumes, strict=True):
        is_mask = bool(data.masks) and name == wanted[-1]
        slices = _values(volume, place.shown(scan.files[name]), is_mask)
        if not channels:
            body = with_body(slices)
        channels.append(square(torch.from_numpy(slices), (rows, columns), data.image_size, mask=is_mask))
    if not len(body):
        raise DataError(f"{place.shown(scan.files[wanted[0]])} shows no body on any slice; leave it out")
    if data.depth:
        extent = channels[0][int(body[0]) : int(body[-1]) + 1]
        for i, patch in enumerate(patches(extent, data.depth, data.patches)):
            yield _Drawn(patch, f"{scan.name} patch {i}")
        return
    images = torch.stack(channels, dim=1)
    for position in body.tolist():
        yield _Drawn(images[position], f"{scan.name} slice {position}")


def _values(volume: _Volume, shown: str, is_mask: bool) -> NDArray[np.float32]:
    """Slices [d, h, w] in [-1, 1], of a mask -1 and 1."""
    slices = axial(volume.values)
    if is_mask:
        return binary(slices, shown).astype(np.float32) * 2 - 1
    found = scaled(slices)
    if found is None:
        raise DataError(f"{shown} has one value everywhere; expected an image")
    return found


def _check_registered(
    scan: Scan, first: tuple[str, _Volume], other: tuple[str, _Volume], place: Place
) -> None:
    """Refuse volumes on different grids."""
    (first_name, a), (name, b) = first, other
    where = f"{place.shown(scan.files[name])} is not registered to {scan.files[first_name].name}"
    if a.values.shape != b.values.shape:
        raise DataError(f"{where}: shape {b.values.shape} differs from {a.values.shape}")
    if not np.allclose(a.affine, b.affine, rtol=0, atol=_SAME):
        raise DataError(f"{where}: affine differs by up to {np.abs(a.affine - b.affine).max():.3g} mm")


def _volume(path: Path, place: Place) -> _Volume:
    """One file in canonical orientation. Raises DataError that names it."""
    import nibabel

    shown = place.shown(path)
    broken = (*DAMAGE, nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    try:
        image: Any = nibabel.load(path)
        _check_header(image, shown)
        canonical = nibabel.as_closest_canonical(image)
        values = np.asarray(canonical.dataobj, np.float32).reshape(canonical.shape[:3])
    except broken as error:
        raise DataError(f"{shown} cannot be read ({type(error).__name__}); replace the file") from error
    if not np.isfinite(values).all():
        raise DataError(f"{shown} has values that are no numbers; expected finite ones")
    x, y, z = (float(mm) for mm in canonical.header.get_zooms()[:3])
    return _Volume(values, np.asarray(canonical.affine, np.float64), (x, y, z))


def _check_header(image: Any, shown: str) -> None:
    shape = tuple(image.shape)
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise DataError(f"{shown} is of shape {shape}; expected one volume of three axes")
    if min(shape) < 1 or int(np.prod(shape, dtype=np.int64)) > _MOST_VOXELS:
        raise DataError(f"{shown} is of shape {shape}; expected 1 to {_MOST_VOXELS} voxels")
    if image.get_data_dtype().kind not in "iuf":
        raise DataError(f"{shown} has values of type {image.get_data_dtype()}; expected real numbers")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise DataError(f"{shown} has no orientation: its affine cannot be inverted")
