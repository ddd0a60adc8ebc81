"""The one noisy score histogram that may leave a site, and the figures that a coordinator reads from it.

Cells are [true class, predicted class, confidence bin]. A patient adds the *mean* of the one-hot cells of
their images: entries ≥ 0 that sum to 1. Adding or removing a patient hence changes the histogram by at most 1
in the L2 norm, the sensitivity that the noise is made for, whatever the images, labels and scores are.
Shape and bins are public; the histogram is private until noise is added.

Bins are one unit of log-odds wide, from chance upwards: a classifier is often surer than it should be, and
bins of equal probability would hold nearly all of its answers in the last one.
"""

import math
from math import log, nan

import torch
from torch import Tensor

from medgan_core.config import SCORE_BINS
from medgan_core.evaluate.utility import Scores
from medgan_core.privacy.grid import to_grid

BINS = SCORE_BINS
_SURE = 4


def score_histogram(probabilities: Tensor, labels: Tensor, owner: Tensor) -> Tensor:
    """Sum over patients of the mean cell of their images: float64 [K, K, 10], without noise.

    `probabilities` [n, K] from `class_scores` (one that is not finite counts as 0); `labels` [n] in [0, K);
    `owner` [n] int64 says to which patient each image belongs.
    """
    cell, weight, shape = _cells(probabilities, labels, owner)
    return cell.bincount(weight, minlength=math.prod(shape)).reshape(shape)


def score_grid_histogram(probabilities: Tensor, labels: Tensor, owner: Tensor) -> Tensor:
    """The same on the grid of secure sums, int64 [K, K, 10]: each image's part is rounded on its own."""
    cell, weight, shape = _cells(probabilities, labels, owner)
    counts = torch.zeros(math.prod(shape), dtype=torch.int64).index_add_(0, cell, to_grid(weight))
    return counts.reshape(shape)


def _cells(
    probabilities: Tensor, labels: Tensor, owner: Tensor
) -> tuple[Tensor, Tensor, tuple[int, int, int]]:
    """The cell of each image [n], its weight [n], and the shape of the histogram."""
    classes = probabilities.shape[1]
    confidence, predicted = probabilities.double().nan_to_num(0.0, 0.0, 0.0).max(dim=1)
    above_chance = torch.logit(confidence, eps=1e-12) + log(max(classes - 1, 1))
    bin_ = above_chance.long().clamp(0, BINS - 1)
    cell = (labels * classes + predicted) * BINS + bin_
    return cell, 1 / owner.bincount().double()[owner], (classes, classes, BINS)


def read_histogram(histogram: Tensor, deviation: float = 0.0) -> Scores:
    """Accuracy, balanced accuracy and AUC from a summed histogram [K, K, 10], with noise of this deviation.

    Patients weigh equally, not images. The AUC counts pairs in a same bin as 1/2 (Mann-Whitney): with two
    classes it is that of the binned probability of class 1, with more the macro one-vs-rest, where a class
    that was not predicted gets an equal share of what the prediction left. A figure is clamped to [0, 1];
    balanced accuracy and AUC are nan where a class has no more patients than four deviations of their noisy
    number, since they divide by it; accuracy if the total is not positive, and all of them where there is one
    class alone.
    """
    # Sums first, clamps last: clamping noisy cells at 0 makes false answers of the many empty ones. With ten
    # classes, 600 patients and a noise of 1.5 it reads an accuracy of .91 as .49; this way as .90 ± .06.
    cells = histogram.double()
    classes = len(cells)
    if classes < 2:
        return Scores()
    confusion = cells.sum(dim=2)
    per_class, right = confusion.sum(dim=1), confusion.diagonal()
    total = confusion.sum()
    accuracy = _share(right.sum() / total) if total > 0 else nan
    if bool((per_class <= _SURE * deviation * math.sqrt(classes * BINS)).any()):
        return Scores(accuracy)
    auc = torch.stack([_auc(cells, true) for true in range(classes)])
    return Scores(accuracy, _share((right / per_class).mean()), _share(auc.mean()))


def _share(figure: Tensor) -> float:
    return float(figure.clamp(0, 1))


def _auc(cells: Tensor, true: int) -> Tensor:
    """One-vs-rest AUC [] of the class `true`."""
    classes = len(cells)
    centre = torch.sigmoid(torch.arange(BINS, dtype=torch.float64) + 0.5 - log(classes - 1))
    scores = ((1 - centre) / (classes - 1)).repeat(classes, 1)
    scores[true] = centre
    scores = scores.flatten()
    positive = cells[true].flatten()
    negative = cells.sum(dim=0).flatten() - positive
    wins = (scores[:, None] > scores).double() + 0.5 * (scores[:, None] == scores).double()
    return positive @ wins @ negative / (positive.sum() * negative.sum())
