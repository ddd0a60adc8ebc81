"""What noisy cells say: the AUC of each attack, how sure it is, and its ROC curve.

The AUC is Mann and Whitney's over pairs of a member and a held-out patient; a pair in one bin counts half.
Its deviation has two parts. Privacy noise: to second order, which matters where there are few patients.
Sampling of patients: DeLong et al. 1988, https://doi.org/10.2307/2531595, read from the cells as if every
image were a patient, which is never less; and no less than that of a test of ranks under the null, so that
three patients against three prove nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from medgan_core.errors import IntegrityError
from medgan_core.evaluate.attacks.bins import BINS, HALVES
from medgan_core.messages import Array

Floats = NDArray[np.float64]
MISS, CONTROL_MISS = 0.05, 0.01
"""How often, of all attacks together, chance puts a lower bound above its AUC, and a control off one half."""
_NORMAL = NormalDist()
_WINS = np.sign(np.subtract.outer(np.arange(BINS), np.arange(BINS))) / 2
"""What a pair adds to AUC - 1/2, by the bins of the member and of the other."""
_ROW = float(np.square(_WINS[0]).sum())
_KNOWN, _SOMEBODY = 2.0, 0.5
"""Standard deviations of noise, and patients, that a total must exceed, so that one may divide by it."""
_UNKNOWN = (0.5, 0.5)


@dataclass(frozen=True)
class AttackFigure:
    """One attack: how well it tells members from held-out patients. All in [0, 1].

    `low` is the one-sided 95 % lower bound of `auc`, by Bonferroni for all attacks together, and `high` the
    upper one; `deviation` ≤ 1/2 is their standard deviation, of privacy noise and of the sampling of
    patients. `control` is the AUC of one secret half of the members against the other, 1/2 but for chance,
    and lies between `control_low` and `control_high` in 99 of 100 runs for all attacks. `roc` has 13 pairs
    of false and true positive rates, both rising, from (0, 0) to (1, 1).
    """

    name: str
    auc: float
    low: float
    high: float
    deviation: float
    control: float
    control_low: float
    control_high: float
    roc: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class AttackFigures:
    """All attacks; `members` and `held_out` are the noisy numbers of patients."""

    members: float
    held_out: float
    figures: tuple[AttackFigure, ...]

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, also of lists for tuples. Raises IntegrityError for anything else."""
        try:
            figures = tuple(
                AttackFigure(**{**each, "roc": tuple((float(x), float(y)) for x, y in each["roc"])})
                for each in body["figures"]
            )
            return cls(float(body["members"]), float(body["held_out"]), figures)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"attack figures: {error}; expected those that a run has written") from error


def read_attacks(
    names: Sequence[str], attack: Array, control: Array, noise_members: float, noise_held_out: float
) -> AttackFigures:
    """The figures of attacks in noisy cells, summed over all sites.

    `attack` and `control` [A, 2, 12] are the cells of members and of held-out patients (`attack_sum`);
    `noise_members` and `noise_held_out` ≥ 0 the standard deviations of the noise in each cell. Where noise
    hides how many patients there are the AUC is told as 1/2, from 0 to 1.

    Raises:
        IntegrityError: the cells do not have this shape, or they or the noise are not finite.
    """
    members, others = (_checked(names, cells) for cells in (attack, control))
    if not all(0 <= noise < math.inf for noise in (noise_members, noise_held_out)):
        raise IntegrityError("attacks: the noise in a cell is no number of 0 or more; is the card damaged?")
    scale = math.sqrt(max(len(names), 1))
    members, others = _evened(members * scale), _evened(others * scale)
    variances = ((noise_members * scale) ** 2, (noise_held_out * scale) ** 2)
    figures = tuple(
        _figure(name, members[i], others[i], *variances, len(names)) for i, name in enumerate(names)
    )
    return AttackFigures(_patients(members), _patients(others), figures)


def bound(miss: float, attacks: int) -> float:
    """Standard deviations beyond which one of so many attacks is by chance in at most `miss` of the runs."""
    return _NORMAL.inv_cdf(1 - miss / max(attacks, 1))


def _checked(names: Sequence[str], cells: Array) -> Floats:
    found = np.asarray(cells, dtype=np.float64)
    expected = (len(names), HALVES, BINS)
    if found.shape != expected or not np.isfinite(found).all():
        raise IntegrityError(f"attacks: cells of shape {found.shape}; expected finite ones of {expected}")
    return found


def _evened(cells: Floats) -> Floats:
    """Cells whose totals are the same: every attack counts the same patients, and noise alone differs.

    Least squares under this constraint, which spreads what a total is off evenly over its cells.
    """
    totals = cells.sum(axis=(1, 2), keepdims=True)
    return cells + (totals.mean() - totals) / (HALVES * BINS) if len(cells) else cells


def _patients(cells: Floats) -> float:
    """Every attack counts them again."""
    return float(cells.sum() / len(cells)) if len(cells) else 0.0


def _figure(
    name: str, members: Floats, others: Floats, of_members: float, of_others: float, attacks: int
) -> AttackFigure:
    """From the cells [2, 12] of one attack, in patients, and the variances of noise in a cell."""
    member, other = members.sum(axis=0), others.sum(axis=0)
    auc, deviation = _compared(member, other, HALVES * of_members, HALVES * of_others)
    control, spread = _compared(members[0], members[1], of_members, of_members)
    low, high = _interval(auc, deviation, bound(MISS, attacks))
    control_low, control_high = _interval(control, spread, bound(CONTROL_MISS / 2, attacks))
    roc = tuple(zip(_rates(other), _rates(member), strict=True))
    return AttackFigure(name, auc, low, high, deviation, control, control_low, control_high, roc)


def _compared(member: Floats, other: Floats, of_member: float, of_other: float) -> tuple[float, float]:
    """AUC and its deviation, from cells [12] and the variances of noise in each."""
    m, n = float(member.sum()), float(other.sum())
    if not (_known(m, of_member) and _known(n, of_other)):
        return _UNKNOWN
    # AUC - 1/2 = mᵀ W n / (|m| |n|): what a member of each bin adds, and what another does.
    above, below = _WINS @ other / n, member @ _WINS / m
    gain = float(member @ above) / m
    noise = _noise_variance(above - gain, below - gain, of_member / m**2, of_other / n**2)
    sampling = _sampling_variance(member, other, above, below, of_member, of_other)
    deviation = math.sqrt(noise + max(sampling, (m + n + 1) / (12 * m * n)))
    return min(max(0.5 + gain, 0.0), 1.0), min(deviation, 0.5)


def _known(total: float, variance: float) -> bool:
    return total > max(_KNOWN * math.sqrt(BINS * variance), _SOMEBODY)


def _noise_variance(above: Floats, below: Floats, of_member: float, of_other: float) -> float:
    """Of AUC by noise, of gradients that are noisy themselves: both have the product of the two noises."""
    both = of_member * of_other * BINS * _ROW
    first = of_member * float(above @ above) + of_other * float(below @ below)
    return max(first - both, both)


def _sampling_variance(
    member: Floats, other: Floats, above: Floats, below: Floats, of_member: float, of_other: float
) -> float:
    """Of AUC by the draw of patients (DeLong), free of what noise adds to squares."""
    m, n = float(member.sum()), float(other.sum())
    gain = float(member @ above) / m
    of_members = float(member @ above**2) / m - _ROW * of_other / n**2 - gain**2
    of_others = float(other @ below**2) / n - _ROW * of_member / m**2 - gain**2
    return min(max(of_members, 0.0), 0.25) / m + min(max(of_others, 0.0), 0.25) / n


def _interval(auc: float, deviation: float, deviations: float) -> tuple[float, float]:
    if (auc, deviation) == _UNKNOWN:
        return 0.0, 1.0
    return max(auc - deviations * deviation, 0.0), min(auc + deviations * deviation, 1.0)


def _rates(cells: Floats) -> tuple[float, ...]:
    """The share of patients in the highest bins, none to all: 13 numbers that rise from 0 to 1."""
    total = float(cells.sum())
    if total <= 0:
        return tuple(i / BINS for i in range(BINS + 1))
    raised = np.maximum.accumulate(np.clip(np.cumsum(cells[::-1]) / total, 0, 1))
    return (0.0, *(float(rate) for rate in raised[:-1]), 1.0)
