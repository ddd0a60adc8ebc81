"""Exponential moving average of weights, kept by the coordinator alone."""

from collections.abc import Mapping

import numpy as np

from medgan_core.messages import Array, Arrays


def ema(average: Arrays, latest: Arrays, decay: float) -> Mapping[str, Array]:
    """decay · average + (1 - decay) · latest for floats; other tensors are taken from the latest."""
    return {
        name: (decay * average[name] + (1 - decay) * value).astype(value.dtype)
        if np.issubdtype(value.dtype, np.floating)
        else value
        for name, value in latest.items()
    }
