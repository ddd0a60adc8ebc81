"""What sampling makes of Rényi DP: a mechanism of which each patient is a part with probability q alone.

The mechanism adds noise P to a sum, P symmetric about 0, so that with the patient's move v in the sum its
output is that of P or, with probability q, of P moved by v. For every such pair and whole order α

    (α - 1) ρ'(α) = log Σ_k C(α, k) (1 - q)^(α-k) q^k exp((k - 1) ρ(k)),

where ρ bounds the divergence of P moved by v from P: the binomial theorem alone, for whichever noise (for the
Gaussian: Mironov, Talwar, Zhang 2019, https://arxiv.org/abs/1908.10530, section 3.3; for Poisson sampling in
general: Zhu and Wang 2019, http://proceedings.mlr.press/v97/zhu19c.html). That is the divergence of the
mixture from P. The one of P from the mixture is no larger (Mironov et al., section 3.1): turning space around
v/2 swaps P and P moved by v, on the whole numbers as on the reals. So ρ' holds for adding and for removing a
patient. The coins must be secret.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def sampled(
    curve: Callable[[float], float], sampling_rate: float, orders: Sequence[float]
) -> NDArray[np.float64]:
    """ρ' at these orders above 1, where `curve(α)` ≥ 0 is ρ: [orders].

    An order that is no whole number gets the figure of the next one, which is larger. Never above ρ itself,
    since a mixture is nowhere further away than what is mixed in.
    """
    whole = np.array([curve(order) for order in orders])
    if sampling_rate == 1:
        return whole
    highest = math.ceil(max(orders))
    exponents = np.array([0.0, 0.0] + [(k - 1) * curve(k) for k in range(2, highest + 1)])
    amplified = [_at(exponents, sampling_rate, math.ceil(order)) for order in orders]
    bounded: NDArray[np.float64] = np.minimum(amplified, whole)
    return bounded


def _at(exponents: NDArray[np.float64], q: float, order: int) -> float:
    """The formula above, in logarithms; `exponents` [k] are (k - 1) ρ(k)."""
    k = np.arange(order + 1)
    choose = [
        math.lgamma(order + 1) - math.lgamma(i + 1) - math.lgamma(order - i + 1) for i in range(order + 1)
    ]
    terms = np.array(choose) + (order - k) * math.log1p(-q) + k * math.log(q) + exponents[: order + 1]
    return max(0.0, float(np.logaddexp.reduce(terms)) / (order - 1))
