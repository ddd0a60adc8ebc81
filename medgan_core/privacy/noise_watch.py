"""Always on: a few coordinates of each noise call that nobody uses, and whether they are what was promised.

They pass through the same call, the same scaling and the same addition as the noise of the weights, onto
zeros, and are stripped before use. Over a round χ² = Σ (x / promised deviation)² has as many degrees of
freedom as there are coordinates, so that σ has an upper bound and ε a lower one. It sees the noise alone:
too little or too much of it, noise that is used twice, steps that were not charged.

Private: what is read here is a function of the noise that hides patients. It stays in the site's own log.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import chdtri, gammainc, gammaincc
from torch import Tensor

from medgan_core.errors import NoiseError
from medgan_core.messages import Event
from medgan_core.privacy.accounting import renyi_epsilon

WIDTH = 256
"""Extra coordinates of each call."""

STOP = 1e-6
"""The p-value below which a site stops."""

_MISS = 0.05
_LEAST_WIDTH = 64


@dataclass(frozen=True)
class NoiseReading:
    """What the watch of a round saw. `event` is what the ledger was charged.

    `chi_square` of `count` coordinates, drawn in `calls` calls; `repeated` of them had been there before.
    """

    event: Event
    calls: int
    count: int
    chi_square: float
    repeated: int

    @property
    def p_value(self) -> float:
        """Of noise as promised, two-sided; 0 where draws were repeated or calls are not the charged steps."""
        if self.repeated or self.calls != self.event.steps:
            return 0.0
        return chi_square_p_value(self.chi_square, self.count)

    @property
    def deviation(self) -> float:
        """Of the noise, in units of what was promised: an upper bound that holds 95 % of the time."""
        return deviation_bound(self.chi_square, self.count)

    def observed(self) -> Event:
        """The charged event with the largest noise that what was seen still allows."""
        sigma, share = self.event.noise_multiplier, self.event.share_deviation
        return replace(
            self.event,
            noise_multiplier=sigma * self.deviation,
            share_deviation=share * self.deviation,
            steps=max(self.calls, 1),
        )

    def to_json(self, delta: float) -> dict[str, Any]:
        """For the site's own log. Both ε are of this round alone, by Rényi DP at few orders: quick."""
        return {
            "calls": self.calls,
            "steps": self.event.steps,
            "coordinates": self.count,
            "chi_square": round(self.chi_square, 3),
            "repeated": self.repeated,
            "p": float(f"{self.p_value:.3g}"),
            "epsilon_charged": _shown(renyi_epsilon((self.event,), delta, quick=True)),
            "epsilon_seen": _shown(renyi_epsilon((self.observed(),), delta, quick=True)),
        }

    def check(self) -> None:
        """NoiseError where this cannot be what was promised, but once in a million rounds."""
        if self.p_value >= STOP:
            return
        raise NoiseError(
            f"noise: {self.reason()}; nothing left. Run medgan-client audit before anything else"
        )

    def reason(self) -> str:
        """What does not hold, in words."""
        if self.calls != self.event.steps:
            return f"{self.calls} draws where {self.event.steps} steps were charged"
        if self.repeated:
            return f"{self.repeated} of {self.count} draws were used before"
        ratio = math.sqrt(self.chi_square / max(self.count, 1))
        return f"its deviation is {ratio:.3f} of what was charged (p = {self.p_value:.1g})"


class NoiseWatch:
    """Made by `PrivacyPlan.watch` for one round; whoever draws noise draws `width` numbers more for it.

    `deviation` is what each number of the noise is promised to have. Nothing is promised without noise: then
    nothing is drawn, and there is no reading.
    """

    def __init__(self, event: Event, deviation: float) -> None:
        self.event, self.deviation = event, deviation
        self.width = _width(event) if 0 < deviation < math.inf else 0
        self._seen: list[Tensor | NDArray[Any]] = []

    def see(self, extra: Tensor | NDArray[Any]) -> None:
        """The extra coordinates of one call, as they were added: [width]."""
        if self.width:
            self._seen.append(extra)

    def reading(self) -> NoiseReading | None:
        """All calls until now; None without noise."""
        if not self.width:
            return None
        calls = [torch.as_tensor(one).detach().cpu().double().numpy() for one in self._seen]
        drawn = np.concatenate(calls) / self.deviation if calls else np.empty(0)
        return NoiseReading(
            self.event, len(calls), len(drawn), float(np.square(drawn).sum()), self._repeated(drawn)
        )

    def _repeated(self, drawn: NDArray[np.float64]) -> int:
        """On a grid equal numbers are no wonder; equal calls are."""
        if self.event.shares:
            calls = drawn.reshape(-1, self.width)
            return self.width * (len(calls) - len(np.unique(calls, axis=0)))
        return len(drawn) - len(np.unique(drawn))


def _width(event: Event) -> int:
    """Discrete noise is dear, and in joint steps there is a lot of it: half a percent more is enough."""
    joint = event.shares > 0 and event.sampling_rate < 1
    return min(WIDTH, max(_LEAST_WIDTH, event.dimension // 200)) if joint else WIDTH


def chi_square_p_value(chi_square: float, count: int) -> float:
    """Of a sum of `count` squared standard Gaussians, two-sided."""
    below, above = gammainc(count / 2, chi_square / 2), gammaincc(count / 2, chi_square / 2)
    return float(min(1.0, 2 * min(below, above)))


def deviation_bound(chi_square: float, count: int, miss: float = _MISS) -> float:
    """An upper bound of the deviation of Gaussians from the sum of their squares, wrong with this chance."""
    return math.sqrt(chi_square / float(chdtri(count, 1 - miss))) if count else math.inf


def _shown(epsilon: float) -> float | str:
    return round(epsilon, 6) if math.isfinite(epsilon) else "inf"
