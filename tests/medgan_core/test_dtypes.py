import numpy as np
import pytest

from medgan_core.dtypes import BFLOAT16, is_floating, raw_bytes, spelled, widened


@pytest.mark.parametrize(
    "dtype", [np.dtype("<f4"), np.dtype("<f8"), np.dtype("|b1"), np.dtype(">i2"), BFLOAT16]
)
def test_a_dtype_is_read_back_from_its_name(dtype: np.dtype[np.generic]) -> None:
    assert np.dtype(spelled(dtype)) == dtype


@pytest.mark.parametrize(
    ("dtype", "floating"),
    [("f2", True), ("f8", True), (BFLOAT16, True), ("i8", False), ("?", False), ("V2", False)],
)
def test_floats_are_what_can_be_averaged(dtype: str, floating: bool) -> None:
    assert is_floating(np.dtype(dtype)) is floating


def test_short_floats_are_reckoned_in_float32() -> None:
    assert [widened(np.dtype(d)) for d in (BFLOAT16, "f2", "f4", "f8")] == ["f4", "f4", "f4", "f8"]


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3).T, np.array(3), np.zeros((0, 2)), np.ones(3, BFLOAT16)]
)
def test_bytes_are_those_in_c_order(array: np.ndarray) -> None:
    assert bytes(raw_bytes(array)) == array.tobytes()
    assert bytes(raw_bytes(np.array(["a", None], object))) != b""
