"""How well any attack can tell members from others where ε is what the card says."""

import math
from statistics import NormalDist

from scipy.optimize import brentq
from scipy.special import log_ndtr

from medgan_core.errors import InputError

_NORMAL = NormalDist()
_LARGEST = 40.0
"""An AUC of 1 in double precision."""


def auc_ceiling(epsilon: float, delta: float) -> float:
    """The largest AUC that ε ≥ 0 at δ in (0, 1) allows, in [1/2, 1]; infinity allows 1.

    Read as Gaussian differential privacy: the μ whose ε at this δ it is (Dong, Roth, Su 2022,
    https://arxiv.org/abs/1905.02383, corollary 2.13), and Φ(μ/√2), the area under its trade-off curve. Noise
    of many steps is as near to Gaussian as makes no difference; (ε, δ) alone would allow more.

    Raises:
        InputError: ε is negative or no number, or δ is not in (0, 1).
    """
    if not epsilon >= 0:
        raise InputError(f"ε = {epsilon}: expected 0 or more, or infinity where there is no privacy")
    if not 0 < delta < 1:
        raise InputError(f"δ = {delta}: expected a probability between 0 and 1")
    if delta_of(_LARGEST, epsilon) <= delta:
        return 1.0
    move = brentq(lambda mu: delta_of(mu, epsilon) - delta, 1e-9, _LARGEST)
    return _NORMAL.cdf(move / math.sqrt(2))


def delta_of(move: float, epsilon: float) -> float:
    """δ at ε of a mechanism of Gaussian differential privacy μ = `move` > 0."""
    if math.isinf(epsilon):
        return 0.0
    first = math.exp(log_ndtr(move / 2 - epsilon / move))
    return max(first - math.exp(min(epsilon + log_ndtr(-move / 2 - epsilon / move), 0.0)), 0.0)
