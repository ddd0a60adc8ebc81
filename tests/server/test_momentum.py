"""The coordinator's momentum follows its formula, and is nothing where it is off."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medgan_core.dtypes import BFLOAT16
from medgan_core.messages import Array, Arrays, Groups
from medgan_core.sections import AggregationConfig
from server.momentum import moved

WEIGHTS = arrays.arrays(np.float32, (3,), elements=st.floats(-10, 10, width=32))


def rounds(asked: AggregationConfig, start: Array, found: list[Array]) -> Groups:
    """The coordinator's groups after as many rounds as there are means."""
    groups: Mapping[str, Arrays] = {"g": {"w": start}, "other": {"w": start}}
    for mean in found:
        groups = {**groups, **moved(asked, groups, {"g": {"w": mean}})}
    return groups


@given(WEIGHTS, st.lists(WEIGHTS, min_size=1, max_size=4), st.floats(0.1, 0.9), st.floats(0.1, 2))
def test_each_round_follows_the_formula(
    start: Array, found: list[Array], momentum: float, rate: float
) -> None:
    groups = rounds(AggregationConfig(momentum=momentum, server_learning_rate=rate), start, found)
    weights, velocity = start.astype(np.float64), np.zeros(3)
    for mean in found:
        velocity = momentum * velocity + (mean - weights)
        weights = weights + rate * velocity
    assert np.allclose(groups["g"]["w"], weights, rtol=1e-4, atol=1e-4)
    assert np.allclose(groups["g_velocity"]["w"], velocity, rtol=1e-4, atol=1e-4)
    assert set(groups) == {"g", "other", "g_velocity"}


@given(WEIGHTS, WEIGHTS)
def test_off_it_changes_no_bit_and_keeps_nothing(start: Array, mean: Array) -> None:
    groups = rounds(AggregationConfig(), start, [mean])
    assert groups["g"]["w"].tobytes() == mean.tobytes()
    assert "g_velocity" not in groups


@given(WEIGHTS, WEIGHTS, st.floats(0.1, 0.9))
def test_a_learning_rate_alone_goes_a_share_of_the_way_and_keeps_nothing(
    start: Array, mean: Array, rate: float
) -> None:
    groups = rounds(AggregationConfig(server_learning_rate=rate), start, [mean])
    assert np.allclose(groups["g"]["w"], start + rate * (mean - start), rtol=1e-5, atol=1e-5)
    assert "g_velocity" not in groups


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64), BFLOAT16])
def test_weights_keep_their_dtype_and_integers_are_as_found(dtype: np.dtype[np.generic]) -> None:
    before = {"g": {"w": np.ones(2, dtype), "n": np.array(3, np.int64)}}
    found = {"g": {"w": np.full(2, 2, dtype), "n": np.array(5, np.int64)}}
    after = moved(AggregationConfig(momentum=0.5), before, found)
    again = moved(AggregationConfig(momentum=0.5), {**before, **after}, found)
    assert after["g"]["w"].dtype == dtype
    assert after["g"]["n"] == 5
    assert set(after["g_velocity"]) == {"w"}
    assert again["g"]["w"].tolist() == [2.5, 2.5]
