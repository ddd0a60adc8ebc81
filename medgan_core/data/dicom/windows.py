"""From values with a meaning (HU, for CT) to [0, 1]: public windows, and those of a file itself.

Each looks at one image alone, or at public constants.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CT_WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "soft_tissue": (40.0, 400.0),
    "abdomen": (60.0, 400.0),
    "liver": (80.0, 150.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "stroke": (40.0, 40.0),
}
"""Centre and width in HU of the usual windows: public constants."""

Values = NDArray[Any]


def linear(values: Values, center: float, width: float) -> NDArray[np.float64]:
    """Values of `center` ± `width`/2 to [0, 1], clipped."""
    scaled: NDArray[np.float64] = np.clip((values - center) / width + 0.5, 0, 1)
    return scaled


def by_function(values: Values, center: float, width: float, function: str) -> NDArray[np.float64]:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, with the output range [0, 1]."""
    if function == "SIGMOID":
        exponent: Values = np.clip(-4 * (values - center) / width, -50, 50)
        return np.asarray(1 / (1 + np.exp(exponent)))
    if function == "LINEAR_EXACT" or width <= 1:
        return linear(values, center, width)
    return linear(values, center - 0.5, width - 1)
