from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.data.volumes import axial, patches, scaled, spread, square, windows, with_body
from tests.medgan_core.data.making import head


def test_axial_slices_have_the_front_up_and_the_right_on_the_left() -> None:
    volume = np.zeros((5, 7, 3), np.float32)
    volume[4, 6, 2] = 1  # right, front, head
    slices = axial(volume)
    assert slices.shape == (3, 7, 5)
    assert slices[2, 0, 0] == 1


def test_intensity_is_of_the_volume_alone_and_its_background_black() -> None:
    volume = axial(head())
    bright = scaled(volume)
    assert bright is not None
    assert np.allclose(bright, scaled(volume * 7), atol=1e-5)  # type: ignore[arg-type]
    assert (bright[volume == 0] == -1).all()
    assert np.abs(bright).max() <= 1
    assert scaled(np.full((3, 4, 5), 2, np.float32)) is None
    far = volume.copy()
    far[0, 0, :3] = 1e6  # a few wild voxels change little
    assert np.abs(scaled(far) - bright)[1:].max() < 0.05  # type: ignore[operator]


def test_slices_without_enough_body_are_left_out() -> None:
    slices = np.full((4, 10, 10), -1, np.float32)
    slices[1, :2, :2] = 0  # 4 of 100 pixels
    slices[2, :1, :5] = 0
    slices[3] = 1
    assert with_body(slices).tolist() == [2, 3]


@settings(deadline=None)
@given(
    st.integers(3, 40),
    st.integers(3, 40),
    st.floats(0.3, 6),
    st.floats(0.3, 6),
    st.sampled_from([28, 64]),
    st.booleans(),
)
def test_slices_become_square_and_stay_in_range(
    height: int, width: int, rows: float, columns: float, side: int, mask: bool
) -> None:
    found = square(torch.ones(2, height, width), (rows, columns), side, mask=mask)
    assert found.shape == (2, side, side)
    inside = (found[0] > 0.5).nonzero()
    extent = inside.max(0).values - inside.min(0).values + 1
    longest = max(height * rows, width * columns)
    assert abs(int(extent[0]) - max(1, side * height * rows / longest)) <= 0.5 + 1e-6
    assert abs(int(extent[1]) - max(1, side * width * columns / longest)) <= 0.5 + 1e-6
    assert found.abs().min() > 0.999
    assert found.abs().max() <= 1


def test_a_mask_is_not_interpolated() -> None:
    drawn = torch.where(torch.rand(3, 50, 41, generator=torch.Generator().manual_seed(0)) > 0.5, 1.0, -1.0)
    assert set(square(drawn, (1, 1), 28, mask=True).unique().tolist()) == {-1.0, 1.0}


@given(st.integers(1, 300), st.integers(8, 64), st.integers(1, 64))
def test_windows_cover_the_volume_evenly_and_hold_enough_slices(count: int, depth: int, most: int) -> None:
    found = windows(count, depth, most)
    assert 1 <= len(found) <= most
    assert found[0][0] == 0
    assert abs(found[-1][1] - 1) < 1e-9
    assert all(later[0] <= earlier[1] for earlier, later in pairwise(found))
    if len(found) > 1:
        assert all((end - begin) * count >= depth - 1e-6 for begin, end in found)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.sampled_from([8, 32]), st.integers(1, 5))
def test_patches_have_the_asked_depth_and_keep_the_order_of_slices(count: int, depth: int, most: int) -> None:
    ramp = torch.linspace(-1, 1, count)[:, None, None].expand(count, 4, 4)
    found = patches(ramp, depth, most)
    assert found.shape == (len(windows(count, depth, most)), depth, 4, 4)
    assert (found[:, 1:] >= found[:, :-1] - 1e-6).all()
    if count > 1:
        assert found[0, 0].max() < found[-1, -1].min()


@given(st.integers(0, 200), st.integers(1, 40))
def test_the_cap_spreads_over_all_and_repeats_none(count: int, most: int) -> None:
    chosen = spread(range(count), most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    assert spread(range(count), 0) == list(range(count))
    assert not chosen or ((chosen[0] + 1) * 2 * most >= count and (count - chosen[-1]) * 2 * most >= count)
