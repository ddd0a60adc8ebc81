"""The public grid on which secure sums are added up: whole numbers modulo 2^64 for reals.

Every image's term is rounded to the grid on its own, and whole numbers are added without error; so what one
patient changes is bounded exactly, and the bound pays for the rounding (`sensitivity`).
"""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medgan_core.errors import RoundError
from medgan_core.messages import Event
from medgan_core.privacy.sum_keys import Words

STEPS = 2**20
"""Steps of the grid in one unit. Rounding adds less than 1 ‰ to the sensitivity up to 250,000 coordinates."""

FLOAT_SLACK = 1e-3
"""Clip norms by which a patient may move how the gradients of all others are rounded."""

_PATIENTS = 2**38
_LIMIT = 2**62


def sensitivity(images: int, dimension: int) -> float:
    """How far, in steps and in the Euclidean norm, one patient of sensitivity 1 can move a sum.

    At most `images` terms are rounded, each by at most half a step in each of `dimension` coordinates:
    STEPS + images · √dimension / 2.
    """
    return STEPS + images * math.sqrt(dimension) / 2


def sensitivity_of_gradients(dimension: int) -> float:
    """How far, in steps, one patient can move a sum of clipped gradients, in units of the clip norm.

    The sum is rounded once, so that with a patient and without it each of `dimension` coordinates is off by
    half a step at most: √dimension together. `FLOAT_SLACK` pays for what the patient changes in the float32
    sum of the others (`book_keeping`).
    """
    return STEPS * (1 + FLOAT_SLACK) + math.sqrt(dimension)


def share_deviation(noise_multiplier: float, shares: int, images: int, dimension: int) -> float:
    """The standard deviation, in steps, of one of `shares` shares of noise of this multiplier."""
    return noise_multiplier * sensitivity(images, dimension) / math.sqrt(shares)


def total_deviation(event: Event, sites: int) -> float:
    """The standard deviation of the noise in the sum over so many sites, in each coordinate of sensitivity 1.

    Every site adds all of the noise, or under secure sum its share.
    """
    own = event.share_deviation / STEPS if event.shares else event.noise_multiplier
    return own * math.sqrt(sites)


def room(noise_deviation: float) -> bool:
    """Whether a sum of 2^38 patients of all sites together, and noise of this deviation, cannot wrap around.

    2^38 patients are 2^58 steps, and noise beyond 64 standard deviations has a probability below e^-2000 in
    each coordinate. Together they must stay below 2^62; the modulus leaves room to ± 2^63.
    """
    return _PATIENTS * STEPS + 64 * noise_deviation < _LIMIT


def to_grid(terms: Tensor) -> Tensor:
    """Each term rounded to the nearest step, int64 of the same shape. Terms that are not finite become 0."""
    return (terms.double().nan_to_num(0.0, 0.0, 0.0) * STEPS).round().long()


def to_words(steps: NDArray[np.int64]) -> Words:
    """Whole numbers modulo 2^64."""
    return steps.astype(np.int64).view(np.uint64)


def read(total: Words) -> NDArray[np.float64]:
    """A sum modulo 2^64 as float64. Raises RoundError where it is none that patients and noise could make.

    A wrong share of a mask gives uniform words: of n coordinates all pass with a probability of 2^-n.
    """
    signed = total.view(np.int64)
    if len(signed) and (int(signed.min()) <= -_LIMIT or int(signed.max()) >= _LIMIT):
        raise RoundError(
            "secure sum: it came out beyond all plausible values; a site gave a wrong share or vector"
        )
    return signed.astype(np.float64) / STEPS
