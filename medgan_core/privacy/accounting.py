"""From mechanism events to ε and back, by Opacus' PRV accountant.

Numerical composition of privacy random variables: Gopi, Lee, Wutschitz 2021, "Numerical Composition of
Differential Privacy", https://arxiv.org/abs/2106.02848; add/remove neighbours, Poisson sampling.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache

from opacus.accountants import PRVAccountant, RDPAccountant

from medgan_core.messages import Event

ACCOUNTANT = "PRV (Opacus)"
_SMALLEST, _LARGEST = 0.05, 10_000.0
_STRIDE = 1.3
_ERRORS = (1e-2, 1e-3)
"""PRV's absolute errors in ε: the smaller one for answers of which the larger would be a visible part."""

_History = tuple[tuple[float, float, int], ...]
"""Noise multiplier, sampling rate and steps of each mechanism."""


def epsilon(events: Iterable[Event], delta: float) -> float:
    """ε at `delta` of all events composed; 0 for none, infinity if one of them is infinite or malformed."""
    merged: dict[tuple[float, float], int] = {}
    for event in events:
        if event.infinite or not _well_formed(event):
            return math.inf
        key = (event.noise_multiplier, event.sampling_rate)
        merged[key] = merged.get(key, 0) + event.steps
    history = tuple(sorted((sigma, q, steps) for (sigma, q), steps in merged.items() if steps))
    return _epsilon(history, delta) if history else 0.0


def _well_formed(event: Event) -> bool:
    """What no plan makes (a negative σ, fewer than no steps) may not lower a sum."""
    return 0 < event.noise_multiplier < math.inf and 0 < event.sampling_rate <= 1 and event.steps >= 0


@lru_cache(maxsize=4096)
def _epsilon(history: _History, delta: float) -> float:
    value = math.nan
    for error in _ERRORS:
        value = _prv_epsilon(history, delta, error)
        if not value < 170 * error:
            break
    value = value if math.isfinite(value) else _rdp_epsilon(history, delta)
    return math.inf if math.isnan(value) else value


def _prv_epsilon(history: _History, delta: float, error: float) -> float:
    """PRV's upper bound, at most about `error` too high; nan or infinity where its grid overflows."""
    accountant = PRVAccountant()
    accountant.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(accountant.get_epsilon(delta, eps_error=error))
        except (RuntimeError, ValueError, OverflowError):
            return math.nan


def _rdp_epsilon(history: _History, delta: float) -> float:
    """Where PRV's grid overflows (very little noise): Rényi DP, looser and always on the safe side."""
    accountant = RDPAccountant()
    accountant.history = list(history)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta))


def smallest_noise(
    events: Callable[[float], tuple[Event, ...]], target: float, delta: float, *, precision: float = 1e-3
) -> float:
    """The smallest noise multiplier σ with which `events(σ)` stays within `target` ε at `delta`.

    Bisection on a logarithmic scale to a relative `precision`; the upper end is returned, so the target
    holds. Rényi DP, fast and looser, says where to look. Raises ValueError where no σ up to 10,000 suffices.
    """

    def cost(sigma: float) -> float:
        return epsilon(events(sigma), delta)

    def rdp(sigma: float) -> float:
        return _rdp_epsilon(
            tuple((e.noise_multiplier, e.sampling_rate, e.steps) for e in events(sigma)), delta
        )

    if cost(_LARGEST) > target:
        raise ValueError(f"no noise multiplier up to {_LARGEST:g} reaches epsilon {target:g}")
    high = _bisect(_SMALLEST, _LARGEST, rdp, target, 0.05)
    while cost(high) > target:
        high = min(high * _STRIDE, _LARGEST)
    low = max(high / _STRIDE, _SMALLEST)
    while low > _SMALLEST and cost(low) <= target:
        low, high = max(low / _STRIDE, _SMALLEST), low
    return _bisect(low, high, cost, target, precision)


def _bisect(
    low: float, high: float, cost: Callable[[float], float], target: float, precision: float
) -> float:
    """The upper end of where the falling `cost` passes `target`, to a relative `precision`."""
    while high / low > 1 + precision:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if cost(middle) <= target else (middle, high)
    return high
