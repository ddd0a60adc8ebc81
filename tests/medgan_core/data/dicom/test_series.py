from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.data.dicom.header import FrameHeader, Header
from medgan_core.data.dicom.reasons import Refusal
from medgan_core.data.dicom.series import plan
from medgan_core.data.volumes import windows
from tests.medgan_core.data.making import config

UP = (0.0, 0.0, 1.0)


def _header(
    place: float, number: int | None = 1, series: str = "s", normal: tuple[float, ...] = UP
) -> Header:
    frame = FrameHeader(0, (0.0, 0.0, place), normal, (1.0, 1.0))
    return Header("CT", f"uid{place}", "series", "p", number, False, False, (frame,), ())


def _volume(*places: float) -> dict[int, Header]:
    return {i: _header(place, i + 1) for i, place in enumerate(places)}


@given(st.permutations(range(8)))
def test_order_is_that_of_positions_whatever_the_files_are_called(order: list[int]) -> None:
    made = plan({file: _header(2.0 * place) for file, place in enumerate(order)}, config("dicom", "x"))
    assert [picture.center.file for picture in made.pictures] == [order.index(place) for place in range(8)]


def test_without_positions_the_instance_number_decides_and_then_the_listing() -> None:
    files = {0: _header(0, 3, normal=()), 1: _header(1, 1, normal=()), 2: _header(2, None, normal=())}
    made = plan(files, config("dicom", "x"))
    assert [picture.center.file for picture in made.pictures] == [1, 0, 2]


def test_a_stack_is_a_slice_between_its_neighbours() -> None:
    made = plan(_volume(0, 2, 4, 6), config("dicom", "x", stack=3, channels=3))
    assert [[part.file for part in picture.slices] for picture in made.pictures] == [[0, 1, 2], [1, 2, 3]]
    assert made.refused == {}


@pytest.mark.parametrize("places", [(0, 2, 4, 9), (0, 2, 2, 4)])
def test_an_uneven_series_makes_no_volume(places: tuple[float, ...]) -> None:
    made = plan(_volume(*places), config("dicom", "x", stack=3, channels=3))
    assert set(made.refused.values()) == {Refusal.UNEVEN}


@given(st.integers(2, 30), st.floats(0.5, 5), st.floats(0.3, 12))
def test_resampling_along_the_normal_is_linear(count: int, step: float, spacing: float) -> None:
    data = config("dicom", "x", slice_spacing=spacing, slices_per_patient=0)
    made = plan(_volume(*(step * i for i in range(count))), data)
    places = [sum(part.file * step * weight for part, weight in p.channels[0]) for p in made.pictures]
    assert np.allclose(places, [i * spacing for i in range(len(places))], atol=1e-4)
    assert len(places) == int((count - 1) * step / spacing + 1e-6) + 1


def test_the_choice_is_a_function_of_the_patient_alone() -> None:
    data = config("dicom", "x", slices_per_patient=4)
    own = _volume(*range(0, 40, 2))
    moved = {file + 1000: header for file, header in own.items()}
    assert [p.center.file + 1000 for p in plan(own, data).pictures] == [
        p.center.file for p in plan(moved, data).pictures
    ]
    assert list(plan(own, data).refused.values()) == [Refusal.CAP] * 16


@given(st.integers(8, 60), st.sampled_from([8, 32]), st.integers(1, 5), st.randoms())
def test_a_volume_s_slices_lie_evenly_over_an_uneven_series(
    count: int, depth: int, patches: int, random: Random
) -> None:
    places = [2.0 * i + random.random() for i in range(count)]
    made = plan(_volume(*places), config("dicom", "x", depth=depth, patches=patches, slices_per_patient=0))
    parts = windows(count, depth, patches)
    assert len(made.pictures) == len(parts)
    for picture, (begin, end) in zip(made.pictures, parts, strict=True):
        found = [sum(places[part.file] * weight for part, weight in blend) for blend in picture.channels]
        span = places[-1] - places[0]
        assert np.allclose(found, places[0] + np.linspace(begin, end, depth) * span, atol=1e-3)
    assert not [i for i, reason in made.refused.items() if reason is not Refusal.CAP]


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        (range(7), Refusal.NO_NEIGHBOURS),
        ((*range(8), 12), Refusal.UNEVEN),
        ((*range(8), 7), Refusal.UNEVEN),
    ],
)
def test_a_series_that_is_no_volume_is_refused(places: tuple[float, ...], reason: Refusal) -> None:
    made = plan(_volume(*places), config("dicom", "x", depth=8))
    assert not made.pictures
    assert set(made.refused.values()) == {reason}
