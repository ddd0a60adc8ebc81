"""From mechanism events to ε and back, by Opacus' PRV accountant.

Numerical composition of privacy random variables: Gopi, Lee, Wutschitz 2021, "Numerical Composition of
Differential Privacy", https://arxiv.org/abs/2106.02848; add/remove neighbours, Poisson sampling.

A history with a sum of discrete Gaussians in it is composed by Rényi DP as a whole: Kairouz, Liu, Steinke
2021, "The Distributed Discrete Gaussian Mechanism", https://arxiv.org/abs/2102.06387, proposition 14. Where
patients are sampled for it: `privacy.sampled`.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp as renyi

from medgan_core.messages import Event
from medgan_core.privacy.sampled import sampled

ACCOUNTANT = "PRV (Opacus)"
ACCOUNTANT_OF_SUMS = (
    "Rényi DP (Opacus), with the sum of discrete Gaussians of Kairouz, Liu, Steinke 2021, proposition 14"
)
ACCOUNTANT_OF_SAMPLING = ", amplified by secret Poisson sampling (Mironov, Talwar, Zhang 2019)"
_SMALLEST, _LARGEST = 0.05, 10_000.0
_STRIDE = 1.3
_ERRORS = (1e-2, 1e-3)
"""PRV's absolute errors in ε: the smaller one for answers of which the larger would be a visible part."""

_ORDERS = (*RDPAccountant.DEFAULT_ALPHAS, 72, 80, 96, 112, 128, 160, 192, 256, 384, 512)
_FEW_ORDERS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64)
_SMALLEST_DEVIATION = 0.5
"""Of a discrete Gaussian, in steps of its grid: below, proposition 14 says nothing."""

# Opacus works out what one step spends at each Rényi order anew at every question, also where PRV only asks
# how wide its grid must be: up to a second for every charge of a round, each time with the same numbers.
renyi._compute_rdp = lru_cache(maxsize=65_536)(renyi._compute_rdp)

_History = tuple[tuple[float, float, int], ...]
"""Noise multiplier, sampling rate and steps of each mechanism."""


def epsilon(events: Iterable[Event], delta: float) -> float:
    """ε at `delta` of all events composed; 0 for none, infinity if one of them is infinite or malformed."""
    composed = _composed(events)
    if composed is None:
        return math.inf
    history, sums = composed
    if sums:
        return _epsilon_with_sums(history, sums, delta)
    return _epsilon(history, delta) if history else 0.0


def renyi_epsilon(events: Iterable[Event], delta: float, *, quick: bool = False) -> float:
    """The same by Rényi DP alone: looser. `quick`: at few orders, looser still, in a millisecond."""
    composed = _composed(events)
    if composed is None:
        return math.inf
    orders = _FEW_ORDERS if quick else _ORDERS
    return _epsilon_with_sums(*composed, delta, orders) if any(composed) else 0.0


def _composed(events: Iterable[Event]) -> tuple[_History, tuple[Event, ...]] | None:
    """The events with their steps added up, sums apart; None where one of them is infinite or malformed."""
    merged: dict[tuple[float, float], int] = {}
    sums: dict[Event, int] = {}
    for event in events:
        if event.infinite or not _well_formed(event):
            return None
        if event.shares:
            kind = replace(event, steps=0)
            sums[kind] = sums.get(kind, 0) + event.steps
            continue
        key = (event.noise_multiplier, event.sampling_rate)
        merged[key] = merged.get(key, 0) + event.steps
    history = tuple(sorted((sigma, q, steps) for (sigma, q), steps in merged.items() if steps))
    counted = [replace(kind, steps=steps) for kind, steps in sums.items()]
    return history, tuple(sorted(counted, key=repr))


def at_sites(events: Sequence[Event], sites: int) -> tuple[Event, ...]:
    """What the events of one site are for a patient who is at so many: each as often, one for each site.

    A secure sum over all sites is one event still, which such a patient moves so many times as far at most,
    if it is sampled at any of them. Local events of such sums are separate ones: `locally_at_sites`.
    """
    sums = tuple(_summed_at(event, sites) for event in events if event.shares)
    return tuple(e for e in events if not e.shares) * sites + sums


def _summed_at(event: Event, sites: int) -> Event:
    if sites == 1:
        return event
    rate = 1 - (1 - event.sampling_rate) ** sites
    return replace(event, noise_multiplier=event.noise_multiplier / sites, sampling_rate=rate)


def locally_at_sites(events: Sequence[Event], sites: int) -> tuple[Event, ...]:
    """The same where nobody else's noise is trusted: what each site sends is an event of its own."""
    return tuple(event.local for event in events) * sites


def _well_formed(event: Event) -> bool:
    """What no plan makes (a negative σ, fewer than no steps) may not lower a sum."""
    fine = 0 < event.noise_multiplier < math.inf and 0 < event.sampling_rate <= 1 and event.steps >= 0
    return fine and (event.shares == 0 or _well_formed_sum(event))


def _well_formed_sum(event: Event) -> bool:
    whole = event.shares >= 1 and event.dimension >= 1
    return whole and _SMALLEST_DEVIATION <= event.share_deviation < math.inf


@lru_cache(maxsize=4096)
def _epsilon_with_sums(
    history: _History, sums: tuple[Event, ...], delta: float, orders: tuple[float, ...] = _ORDERS
) -> float:
    """ε by Rényi DP of Poisson-sampled Gaussians and sums of discrete Gaussians together."""
    spent = np.zeros(len(orders))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sigma, q, steps in history:
            spent += renyi.compute_rdp(q=q, noise_multiplier=sigma, steps=steps, orders=orders)
        for event in sums:
            spent += event.steps * _curve_of_sum(replace(event, steps=1), orders)
        value, _ = renyi.get_privacy_spent(orders=orders, rdp=spent, delta=delta)
    return math.inf if math.isnan(value) else max(0.0, float(value))


@lru_cache(maxsize=256)
def _curve_of_sum(event: Event, orders: tuple[float, ...]) -> NDArray[np.float64]:
    """What one such sum spends at each order."""
    return sampled(lambda order: renyi_of_sum(event, order), event.sampling_rate, orders)


def renyi_of_sum(event: Event, order: float) -> float:
    """Rényi divergence of an order ≥ 1 that one patient in it can make in one sum of discrete Gaussians.

    The Gaussian's α/(2σ²), and what the sum of n discrete Gaussians differs from one (proposition 14).
    """
    move, apart, coordinates = 1 / event.noise_multiplier, sum_apart(event), event.dimension
    added = order / 2 * move**2 + apart * coordinates
    widened = order / 2 * (move + math.sqrt(coordinates) * apart) ** 2
    return min(added, widened)


def sum_apart(event: Event) -> float:
    """τ = 10 Σ_{k=1}^{n-1} exp(-2π²s²k/(k+1)): how far n shares of deviation s are from one Gaussian."""
    rate = 2 * (math.pi * event.share_deviation) ** 2
    return 10 * sum(math.exp(-rate * k / (k + 1)) for k in range(1, event.shares))


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
