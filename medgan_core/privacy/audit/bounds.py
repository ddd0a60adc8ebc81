"""Lower bounds of ε from what was observed, and p-values of what a plan promises.

Every bound holds with probability 1 - `miss` over the mechanism's own randomness.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, gammainc, gammaincc, ndtr, ndtri
from scipy.stats import binom

from medgan_core.messages import Event
from medgan_core.privacy.accounting import epsilon

Floats = NDArray[np.float64]
_SMALLEST_MOVE = 1e-3


def gaussian_move(absent: Floats, present: Floats, miss: float = 0.05) -> float:
    """μ such that the mechanism is at least as revealing as N(0, 1) against N(μ, 1): ≥ 0.

    Scores without and with a canary that adds 1: guessed by whether they pass one half, a threshold that no
    score has chosen. Errors by Clopper and Pearson, μ by Dong, Roth, Su 2022, "Gaussian Differential
    Privacy", https://arxiv.org/abs/1905.02383, as in Nasr et al. 2023, https://arxiv.org/abs/2302.07956.
    """
    wrong = _most(int((absent > 0.5).sum()), len(absent), miss / 2)
    missed = _most(int((present <= 0.5).sum()), len(present), miss / 2)
    return max(0.0, float(-ndtri(wrong) - ndtri(missed)))


def _most(hits: int, count: int, miss: float) -> float:
    """The largest probability with which so few hits are still likely."""
    return 1.0 if hits >= count else float(betaincinv(hits + 1, count - hits, 1 - miss))


def epsilon_of_move(move: float, event: Event, delta: float) -> float:
    """ε of an event whose every step moves its output by `move` standard deviations; 0 for none."""
    if move < _SMALLEST_MOVE:
        return 0.0
    return epsilon((replace(event, noise_multiplier=1 / move),), delta)


def moved_too_far(absent: Floats, present: Floats, sigma: float) -> float:
    """The p-value of a canary that moves the mean by at most 1, under noise of deviation σ: one-sided."""
    apart = float(present.mean() - absent.mean())
    return float(ndtr((1 - apart) / (sigma * math.sqrt(1 / len(absent) + 1 / len(present)))))


def one_run(guesses: int, right: int, canaries: int, delta: float, miss: float = 0.05) -> float:
    """ε ≥ this if so many of the guesses are right, of canaries that joined by fair coins in a single run.

    Steinke, Nasr, Jagielski 2023, "Privacy Auditing with One (1) Training Run", theorem 5.2,
    https://arxiv.org/abs/2305.08846.
    """
    low, high = 0.0, 30.0
    if one_run_p_value(guesses, right, canaries, 0.0, delta) > miss:
        return 0.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if one_run_p_value(guesses, right, canaries, middle, delta) < miss:
            low = middle
        else:
            high = middle
    return low


def one_run_p_value(guesses: int, right: int, canaries: int, epsilon: float, delta: float) -> float:
    """Of at least so many right guesses under (ε, δ)."""
    chance = 1 / (1 + math.exp(-epsilon))
    exact = binom.sf(right - 1, guesses, chance)
    steps = np.arange(1, right + 1)
    slack = np.cumsum(binom.pmf(right - steps, guesses, chance)) / steps
    return float(min(1.0, exact + 2 * canaries * delta * slack.max(initial=0.0)))


def any_too_far(moves: Floats, sigma: float) -> float:
    """The p-value of the canary that moved most on average, of moves [steps, canaries] of at most 1 each."""
    steps, canaries = moves.shape
    farthest = float(moves.mean(axis=0).max())
    return float(min(1.0, canaries * ndtr((1 - farthest) * math.sqrt(steps) / sigma)))


def dispersion_p_value(counts: NDArray[np.int64], draws: int, rate: float) -> float:
    """Of independent counts that are Bin(draws, rate) each: too even or too uneven, two-sided.

    Σ (c - nq)² / nq(1 - q) has mean k and variance k (2 + (1 - 6q(1 - q)) / nq(1 - q)); a gamma distribution
    of both stands for it.
    """
    spread = draws * rate * (1 - rate)
    if spread == 0:
        return float(np.all(counts == draws * rate))
    total, many = float(np.square(counts - draws * rate).sum() / spread), len(counts)
    variance = many * (2 + (1 - 6 * rate * (1 - rate)) / spread)
    shape, scale = many**2 / variance, variance / many
    return two_sided(gammainc(shape, total / scale), gammaincc(shape, total / scale))


def binomial_p_value(hits: int, draws: int, rate: float) -> float:
    """Of hits that are Bin(draws, rate), two-sided."""
    return two_sided(binom.cdf(hits, draws, rate), binom.sf(hits - 1, draws, rate))


def two_sided(below: float, above: float) -> float:
    """From the two tails."""
    return float(min(1.0, 2 * min(below, above)))
