"""How well the classes are served, by the noisy histogram of the evaluation: worst first for whoever reads.

The histogram is what the sites released; reading it costs nothing. A class with few held-out patients is not
assessed: its share would be noise.
"""

import math
from collections.abc import Sequence
from math import nan

import numpy as np

from medgan_core.config import SCORE_BINS
from medgan_core.errors import ReleaseError
from medgan_core.messages import Array, Phase, Receipt
from medgan_core.privacy.grid import total_deviation
from medgan_core.release.card import ReleaseCard
from medgan_core.release.check.result import Subgroup


def subgroups(card: ReleaseCard, receipts: Sequence[Receipt], smallest: float) -> tuple[Subgroup, ...]:
    """A figure for each class, in the card's order; none where the release tells no histogram.

    Raises ReleaseError where it is no histogram of these classes.
    """
    classes = card.data.classes
    told = card.metrics.get("histogram")
    if told is None or len(classes) < 2:
        return ()
    cells, noise = _cells(told, len(classes)), deviation(receipts, Phase.EVALUATE)
    return tuple(_subgroup(name, cells[true], true, noise, smallest) for true, name in enumerate(classes))


def deviation(receipts: Sequence[Receipt], phase: str) -> float:
    """The standard deviation of the noise in each number of a phase's total, as its receipts say."""
    asked = [receipt for receipt in receipts if str(receipt.phase) == phase]
    if not asked:
        return nan
    return total_deviation(asked[-1].event, len({receipt.site for receipt in asked}))


def accuracy_error(card: ReleaseCard, receipts: Sequence[Receipt]) -> float:
    """The standard error of the accuracy by noise and choice of patients; nan without a histogram."""
    told, classes = card.metrics.get("histogram"), len(card.data.classes)
    if told is None or classes < 2:
        return nan
    cells, noise = _cells(told, classes), deviation(receipts, Phase.EVALUATE)
    total, right = float(cells.sum()), float(cells[range(classes), range(classes)].sum())
    return _error(right, total, noise, classes * SCORE_BINS, classes * (classes - 1) * SCORE_BINS)


def _subgroup(name: str, cells: Array, true: int, noise: float, smallest: float) -> Subgroup:
    patients, right = float(cells.sum()), float(cells[true].sum())
    if patients < smallest:
        return Subgroup(name=name, patients=round(patients, 1), right=nan, error=nan)
    error = _error(right, patients, noise, SCORE_BINS, (len(cells) - 1) * SCORE_BINS)
    share = min(max(right / patients, 0.0), 1.0)
    return Subgroup(name=name, patients=round(patients, 1), right=share, error=error)


def _error(right: float, total: float, noise: float, right_cells: int, wrong_cells: int) -> float:
    """Of the share right / total, by the delta method; nan for a total that is not positive."""
    if not total > 0:
        return nan
    share = min(max(right / total, 0.0), 1.0)
    of_noise = noise**2 * (right_cells * (1 - share) ** 2 + wrong_cells * share**2)
    return math.sqrt(of_noise + share * (1 - share) * total) / total


def _cells(told: object, classes: int) -> Array:
    try:
        cells = np.asarray(told, np.float64)
    except (TypeError, ValueError):
        cells = np.empty(0)
    if cells.shape != (classes, classes, SCORE_BINS) or not np.isfinite(cells).all():
        raise ReleaseError(
            f"card.json: its histogram has the shape {list(cells.shape)}: expected {classes} × {classes} × "
            f"{SCORE_BINS} finite numbers"
        )
    return cells
