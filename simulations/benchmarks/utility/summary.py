"""What the rows of the benchmark say: means with intervals over seeds, and what is published."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from statistics import fmean, stdev

from simulations.benchmarks.baselines import METHODS
from simulations.benchmarks.utility.rows import Row

PUBLISHED: dict[tuple[str, str, float], float] = {
    ("dp-merf", "mnist", 1.0): 0.803,
    ("dp-merf", "mnist", 10.0): 0.813,
    ("dp-gan", "mnist", 1.0): 0.924,
    ("dp-gan", "mnist", 10.0): 0.950,
}
"""Accuracy by method, study and ε, of one site: Gong et al. 2025, DPImageBench, https://arxiv.org/abs/2503.14681.

That of DP-GAN at ε = 10 is its authors' own (https://arxiv.org/abs/2302.02936), above the benchmark's .927.
Their unit is the image and their classifier another one.
"""
CLOSE = 0.02
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t: 97.5 % quantiles by degrees of freedom, from 1; with more the last one is on the safe side."""


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds; `half` is half of the 95 % t interval, nan with one seed."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """From one value for each seed; nan where any is not finite."""
        if not values or not all(isfinite(value) for value in values):
            return cls(nan, nan)
        if len(values) == 1:
            return cls(values[0], nan)
        quantile = _T[min(len(values) - 1, len(_T)) - 1]
        return cls(fmean(values), quantile * stdev(values) / sqrt(len(values)))

    def __str__(self) -> str:
        if not isfinite(self.mean):
            return "not assessed"
        return f"{self.mean:.3f}" + (f" ± {self.half:.3f}" if isfinite(self.half) else "")


@dataclass(frozen=True)
class Summary:
    """The rows of one method at one ε and number of sites, over seeds."""

    method: str
    study: str
    epsilon: float
    sites: int
    seeds: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    auc: Estimate
    seconds: float
    spent: float

    @property
    def published(self) -> float:
        """The published accuracy, of one site, unless ours is within two points of it; nan for none."""
        known = PUBLISHED.get((self.method, self.study, self.epsilon), nan) if self.sites == 1 else nan
        return nan if abs(self.accuracy.mean - known) <= CLOSE else known


def summaries(rows: Sequence[Row]) -> tuple[Summary, ...]:
    """One for each method, study, ε and number of sites, in the order of studies, sites, ε and methods."""
    groups: dict[tuple[str, int, float, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.study, row.sites, row.epsilon, row.method), []).append(row)
    order = {name: place for place, name in enumerate(METHODS)}
    keys = sorted(groups, key=lambda key: (*key[:3], order.get(key[3], len(order)), key[3]))
    return tuple(_summary(groups[key]) for key in keys)


def _summary(rows: Sequence[Row]) -> Summary:
    def over(figure: Callable[[Row], float]) -> Estimate:
        return Estimate.of([figure(row) for row in rows])

    first = rows[0]
    return Summary(
        first.method,
        first.study,
        first.epsilon,
        first.sites,
        len(rows),
        over(lambda row: row.accuracy),
        over(lambda row: row.balanced_accuracy),
        over(lambda row: row.auc),
        fmean(row.seconds for row in rows),
        max(row.spent for row in rows),
    )
