"""Kinds of numbers in tensors. numpy knows bfloat16 through ml_dtypes alone, and calls it a void."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether its numbers can be averaged: floats, bfloat16 among them, and no integers or booleans."""
    return dtype.kind == "f" or dtype == BFLOAT16


def widened(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """In what floats of this kind are multiplied and compared: float32, or what is wider."""
    return np.promote_types(dtype, np.float32)


def spelled(dtype: np.dtype[Any]) -> str:
    """The dtype with its byte order, so that `np.dtype` reads it back: "<f4", "bfloat16"."""
    return dtype.name if dtype == BFLOAT16 else dtype.str


def raw_bytes(array: NDArray[Any]) -> memoryview | bytes:
    """The numbers of an array in C order, without a copy where they lie so already."""
    if array.dtype.hasobject:  # pointers; refused elsewhere for what they are
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
