"""Where the pixels of a series lie in space: millimetres in the patient's axes (PS3.3 section C.7.6.2)."""

import math
from dataclasses import dataclass

import numpy as np

from medgan_core.errors import InputError

Vector = tuple[float, float, float]
Orientation = tuple[float, float, float, float, float, float]
AXIAL: Orientation = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_UNIT = 1e-4
_LARGEST = 10_000


@dataclass(frozen=True)
class Geometry:
    """The grid of a series.

    `spacing` is (between rows, between columns) and `thickness` that of a slice, both in mm, above 0 and at
    most 10,000. `orientation` holds the direction cosines of a row and of a column, two unit vectors at right
    angles. `positions` [n] are the centres of the first pixels in mm; empty where an image has no place in
    a patient (DX, SC). `patient_position` as in (0018,5100).

    Raises InputError for what cannot be a grid.
    """

    spacing: tuple[float, float] = (1.0, 1.0)
    thickness: float = 1.0
    orientation: Orientation = AXIAL
    positions: tuple[Vector, ...] = ()
    patient_position: str = "HFS"

    def __post_init__(self) -> None:
        # plain floats: identifiers are derived from how they are written
        for name in ("spacing", "orientation"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        object.__setattr__(self, "thickness", float(self.thickness))
        object.__setattr__(self, "positions", tuple(tuple(map(float, p)) for p in self.positions))
        for name, value in (*(("spacing", v) for v in self.spacing), ("thickness", self.thickness)):
            if not (math.isfinite(value) and 0 < value <= _LARGEST):
                raise InputError(f"{name} {value} mm: expected more than 0, at most {_LARGEST:,}")
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        if not all(abs(v) < _UNIT for v in (row @ row - 1, column @ column - 1, row @ column)):
            raise InputError(f"orientation {self.orientation}: expected two unit vectors at right angles")
        if not np.isfinite(np.array(self.positions)).all():
            raise InputError("positions: expected finite millimetres")

    @property
    def normal(self) -> Vector:
        """The direction in which slices follow each other: row × column, a unit vector."""
        x, y, z = np.cross(self.orientation[:3], self.orientation[3:])
        return float(x), float(y), float(z)

    def along(self, position: Vector) -> float:
        """How far a position lies along the normal, in mm."""
        return float(np.dot(position, self.normal))


def stack(
    slices: int,
    rows: int,
    columns: int,
    spacing: tuple[float, float],
    thickness: float,
    step: float = 0.0,
    orientation: Orientation = AXIAL,
) -> Geometry:
    """Slices at equal steps (mm; 0: the thickness) along the normal, the volume's centre at the origin."""
    grid = Geometry(spacing, thickness, orientation)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    corner = -row * spacing[1] * (columns - 1) / 2 - column * spacing[0] * (rows - 1) / 2
    steps = (np.arange(slices) - (slices - 1) / 2) * (step or thickness)
    centres = corner + steps[:, None] * np.array(grid.normal)
    positions = tuple((float(x) + 0.0, float(y) + 0.0, float(z) + 0.0) for x, y, z in centres.round(6))
    return Geometry(spacing, thickness, orientation, positions)
