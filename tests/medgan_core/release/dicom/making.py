"""Synthetic patients of every modality, small ones."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.fileset import FileSet

from medgan_core.release.dicom.patients import Modality
from medgan_core.release.dicom.studies import Geometry, Patient, Provenance, Series, Study, stack

MODALITIES: tuple[Modality, ...] = ("CT", "MR", "DX", "SC")
PROVENANCE = Provenance(
    model="5d" * 32,
    version="0.1.0",
    study="chest",
    epsilon=9.87654,
    delta=1e-5,
    unit="patient",
    created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    seed=7,
    local_epsilon=31.2,
)


def picture(slices: int, rows: int, columns: int, seed: int = 0) -> NDArray[np.uint8]:
    """A bright disc that grows from slice to slice on a slope with noise."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    noise = np.random.default_rng(seed).normal(0, 6, (slices, rows, columns))
    radius = np.linspace(0.3, 0.6, slices)[:, None, None]
    levels: NDArray[np.float64] = 60 + 40 * x + 110 * (np.hypot(x, y) < radius) + noise
    return levels.clip(0, 255).astype(np.uint8)


def geometry(modality: Modality, slices: int, rows: int, columns: int) -> Geometry | None:
    if modality in ("CT", "MR"):
        return stack(slices, rows, columns, (0.7, 0.8), 2.5)
    return Geometry((0.7, 0.7)) if modality == "DX" else None


def series(modality: Modality, slices: int = 3, rows: int = 40, columns: int = 33, index: int = 0) -> Series:
    pixels = picture(slices, rows, columns, index)
    return Series(modality, pixels, index, geometry(modality, slices, rows, columns), label="pneumonia")


def patient(modality: Modality, slices: int = 3, index: int = 0) -> Patient:
    return Patient((Study((series(modality, slices, index=index),)),))


def everybody() -> Iterator[Patient]:
    """One patient of each modality, and one with colour."""
    for number, modality in enumerate(MODALITIES):
        yield patient(modality, index=10 * number)
    colour = np.stack([picture(1, 40, 33, channel) for channel in range(3)], axis=-1)
    yield Patient((Study((Series("SC", colour, index=90, label="normal"),)),))


def files(folder: Path) -> list[Path]:
    """The images below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name.startswith("IM"))


def listed(folder: Path) -> list[str]:
    """The files that a DICOMDIR lists, by their names in its folder."""
    opened = FileSet(folder / "DICOMDIR")
    try:
        return [Path(instance.path).relative_to(folder).as_posix() for instance in opened]
    finally:
        opened._stage["t"].cleanup()


def read(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in files(folder)]
