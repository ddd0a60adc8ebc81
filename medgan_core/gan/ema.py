"""Exponential moving average of weights, kept by the coordinator alone."""

from collections.abc import Mapping

from medgan_core.dtypes import is_floating
from medgan_core.messages import Array, Arrays


def ema(average: Arrays, latest: Arrays, decay: float) -> Mapping[str, Array]:
    """decay · average + (1 - decay) · latest for floats; other tensors are taken from the latest."""
    return {
        name: (decay * average[name] + (1 - decay) * value).astype(value.dtype)
        if is_floating(value.dtype)
        else value
        for name, value in latest.items()
    }
