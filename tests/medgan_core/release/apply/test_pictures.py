"""Values go to brightness and back; what a network never saw stays."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.data.dicom.windows import linear
from medgan_core.release.apply.pictures import Made, Scale, overlay, put_back
from tests.medgan_core.release.apply.making import ORIGIN


def of_units(purpose: str, units: np.ndarray, **rest: object) -> Made:
    outputs = torch.from_numpy(units.astype(np.float32))[None, None] * 2 - 1
    return Made(purpose, outputs, ORIGIN, **rest)  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.floats(20, 4000), st.booleans())
def test_what_a_network_leaves_alone_comes_back_bit_by_bit(seed: int, width: float, inverted: bool) -> None:
    stored = np.random.default_rng(seed).integers(-2000, 3000, (9, 9)).astype(np.int16)
    units = linear(stored, 40, width)
    units = (1 - units if inverted else units).astype(np.float32)
    back = put_back(stored, units, Scale.of(stored, units), of_units("restoration", units), 0, 0)
    np.testing.assert_array_equal(back.round(), stored)


def test_values_beyond_the_window_stay_and_others_change() -> None:
    stored = np.array([[-1000, 0, 50, 100, 900]])
    units = linear(stored, 50, 100)
    changed = np.clip(units + np.array([[0.3, 0.1, 0.1, -0.1, -0.2]]), 0, 1)
    back = put_back(stored, units, Scale.of(stored, units), of_units("restoration", changed), 0, 0)
    np.testing.assert_allclose(back, [[-1000, 10, 60, 90, 900]], atol=0.01)


def test_nothing_of_what_was_in_a_hole_is_left() -> None:
    stored = np.array([[0, 50, 100, 4000]])
    units = linear(stored, 50, 100)
    filled = np.array([[0, 0.5, 1, 0.5]])
    holes = torch.tensor([[[False, False, False, True]]])
    made = of_units("restoration", filled, holes=holes)
    np.testing.assert_allclose(
        put_back(stored, units, Scale.of(stored, units), made, 0, 0)[0, 3], 50, atol=0.01
    )


def test_another_modality_is_spread_over_the_files_values() -> None:
    stored = np.array([[100, 150, 300]])
    units = linear(stored, 200, 200)
    made = of_units("translation", np.array([[0, 0.25, 1]]))
    back = put_back(stored, units, Scale.of(stored, units), made, 0, 0)
    np.testing.assert_allclose(back, [[100, 150, 300]], atol=0.01)


def test_brightness_that_turns_round_has_no_way_back() -> None:
    with pytest.raises(ValueError, match="no way back"):
        Scale.of(np.array([0, 1, 2]), np.array([0.0, 1.0, 0.5]))


def test_an_image_of_one_value() -> None:
    scale = Scale.of(np.full((3, 3), 7), np.full((3, 3), 0.2))
    np.testing.assert_array_equal(scale.back(np.array([0.0, 0.5])), [7, 7])


def test_an_overlay_is_grey_where_nothing_is_and_red_where_something_is() -> None:
    image, heat = torch.zeros(1, 2, 2), torch.full((2, 2), -1.0)
    heat[0, 0] = 0.0
    picture = overlay(image, heat)
    assert len(set(picture[1, 1].tolist())) == 1
    assert picture[0, 0, 0] > picture[0, 0, 1] + 50
