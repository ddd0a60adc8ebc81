"""What the sites tell of a task whose networks work on patients' images: one noisy sum of its scores.

A patient adds the *mean* over their images of a vector of norm at most 1, the sensitivity that the noise is
made for. Where outputs have a reference it is [s₁, …, sₖ, 1] / √(k + 1) for scores in [0, 1]: the last number
counts patients, so that a mean is a noisy sum over a noisy count. An anomaly score is a probability, and goes
into the same histogram as a classifier's (`histogram.py`).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from medgan_core.config import MEAN_SCORES, SCORE_BINS
from medgan_core.evaluate.histogram import read_histogram, score_grid_histogram, score_histogram
from medgan_core.privacy.grid import to_grid

_ROUNDING = 1e-6
"""What the sum of one patient's images may fall short of a whole patient."""


def judged_sum(task: str, scores: Tensor, labels: Tensor, owner: Tensor, *, grid: bool = False) -> Tensor:
    """Sum over patients of the mean of their images' vectors, [j] without noise.

    `scores` [n, k]: one that is not finite counts as 0, others are clamped to [0, 1]. `labels` [n], `owner`
    [n] int64. Float64, or with `grid` int64 on the grid of secure sums, each image's part rounded alone.
    """
    bounded = scores.double().nan_to_num(0.0, 0.0, 0.0).clamp(0, 1)
    if task not in MEAN_SCORES:
        add = score_grid_histogram if grid else score_histogram
        return add(torch.cat([1 - bounded, bounded], dim=1), labels, owner).flatten()
    terms = torch.cat([bounded, torch.ones_like(bounded[:, :1])], dim=1) / math.sqrt(bounded.shape[1] + 1)
    weighted = terms / owner.bincount().double()[owner][:, None]
    return (to_grid(weighted) if grid else weighted).sum(dim=0)


def read_scores(task: str, total: Tensor, deviation: float = 0.0) -> Mapping[str, float]:
    """The figures of a task in a sum [j] over patients, with noise of this deviation.

    Accuracy and AUC, or means: in [0, 1], and nan where the noisy count is below one patient.
    """
    names = MEAN_SCORES.get(task)
    if names is None:
        return asdict(read_histogram(total.reshape(2, 2, SCORE_BINS), deviation))
    count = float(total[-1]) * math.sqrt(len(total))
    enough = count > 1 - _ROUNDING
    means = (total[:-1].double() / total[-1]).clamp(0, 1).tolist() if enough else [math.nan] * len(names)
    return dict(zip(names, means, strict=True))
