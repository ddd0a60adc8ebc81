import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.gan.ema import ema
from medgan_core.messages import Array


def arrays(value: float) -> dict[str, Array]:
    return {"w": np.full((2, 3), value, dtype=np.float32), "steps": np.array(int(value))}


def test_floats_move_and_counters_are_taken_from_the_latest() -> None:
    moved = ema(arrays(1), arrays(5), 0.75)
    assert np.allclose(moved["w"], 2)
    assert moved["w"].dtype == np.float32
    assert moved["steps"] == 5
    assert moved["steps"].dtype == np.int64


def test_without_decay_the_latest_is_taken_and_with_all_of_it_nothing_moves() -> None:
    assert np.array_equal(ema(arrays(1), arrays(5), 0.0)["w"], arrays(5)["w"])
    assert np.array_equal(ema(arrays(1), arrays(5), 1.0)["w"], arrays(1)["w"])


def test_inputs_are_left_as_they_were() -> None:
    average, latest = arrays(1), arrays(5)
    ema(average, latest, 0.5)
    assert np.array_equal(average["w"], arrays(1)["w"])
    assert np.array_equal(latest["w"], arrays(5)["w"])


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0, 1))
def test_the_average_lies_between_both(one: float, other: float, decay: float) -> None:
    moved = float(ema({"w": np.array(one)}, {"w": np.array(other)}, decay)["w"])
    assert min(one, other) - 1e-9 <= moved <= max(one, other) + 1e-9


def test_a_constant_is_approached_geometrically() -> None:
    average = {"w": np.zeros(1)}
    for _ in range(10):
        average = dict(ema(average, {"w": np.ones(1)}, 0.9))
    assert np.allclose(average["w"], 1 - 0.9**10)
