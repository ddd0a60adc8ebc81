import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.errors import InputError
from medgan_core.release.dicom.geometry import AXIAL, Geometry, stack

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


@given(
    st.integers(1, 20),
    st.floats(0.1, 5),
    st.floats(0.5, 10),
    st.sampled_from([0.0, 1.25, 3.0]),
    st.sampled_from([AXIAL, SAGITTAL]),
)
def test_a_stack_is_uniform_along_its_normal_and_centred(
    slices: int, spacing: float, thickness: float, step: float, orientation: tuple[float, ...]
) -> None:
    grid = stack(slices, 30, 40, (spacing, spacing), thickness, step, orientation)  # type: ignore[arg-type]
    places = [grid.along(position) for position in grid.positions]
    np.testing.assert_allclose(np.diff(places), step or thickness, atol=1e-5)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    centre = np.mean(grid.positions, axis=0) + spacing * (row * 39 / 2 + column * 29 / 2)
    np.testing.assert_allclose(centre, 0, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing": (0.0, 1.0)},
        {"spacing": (1.0, math.nan)},
        {"thickness": -1.0},
        {"thickness": math.inf},
        {"orientation": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)},
        {"orientation": (2.0, 0.0, 0.0, 0.0, 1.0, 0.0)},
        {"positions": ((0.0, 0.0, math.nan),)},
    ],
)
def test_what_is_no_grid(changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Geometry(**changes)  # type: ignore[arg-type]


def test_numbers_of_any_kind_give_the_same_value() -> None:
    exact = Geometry((np.float64(0.7), np.float64(1)), np.float64(2), positions=((np.float64(1), 2, 3),))
    assert repr(exact) == repr(Geometry((0.7, 1.0), 2.0, positions=((1.0, 2.0, 3.0),)))
