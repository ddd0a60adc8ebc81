"""The gate: does the refined generator replace that of the one-shot start? One query of held-out patients.

Two classifiers, each trained on images of one generator, are asked about real patients. For each image the
advantage is 1 where only the refined generator's classifier is right, -1 where only the other one is, else 0.
It is correctness and not confidence, because its mean is the gain in accuracy, and because a classifier that
is trained on narrower images is surer and not better.

A patient adds the *mean* over their images of [a, c·|a|, 0, …] / √(1 + c²): a vector of norm at most 1, the
sensitivity that the noise is made for. The second number says how often the two disagree, and so how much the
first would vary with other patients. The empty numbers carry noise alone; a secure sum that is garbled shows
in them (`privacy.grid.read`).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor

from medgan_core.config import GATE_SIZE
from medgan_core.privacy.grid import to_grid

_DISAGREEMENT = 0.5
_NORM = math.sqrt(1 + _DISAGREEMENT**2)
_NORMAL = NormalDist()
_INTERVAL, _RESOLVED = _NORMAL.inv_cdf(0.975), _NORMAL.inv_cdf(0.95)


def advantage_sum(refined: Tensor, one_shot: Tensor, labels: Tensor, owner: Tensor) -> Tensor:
    """Sum over patients of their vectors: float64 [64], without noise.

    `refined` and `one_shot` [n, K] are probabilities from `class_scores` (one that is not finite counts as
    0); `labels` [n] in [0, K); `owner` [n] int64 says to which patient each image belongs.
    """
    return advantage_terms(refined, one_shot, labels, owner).sum(dim=0)


def advantage_grid_sum(refined: Tensor, one_shot: Tensor, labels: Tensor, owner: Tensor) -> Tensor:
    """The same on the grid of secure sums, int64 [64]: each image's part is rounded on its own."""
    return to_grid(advantage_terms(refined, one_shot, labels, owner)).sum(dim=0)


def advantage_terms(refined: Tensor, one_shot: Tensor, labels: Tensor, owner: Tensor) -> Tensor:
    """What each image adds, float64 [n, 64]."""
    advantage = _right(refined, labels) - _right(one_shot, labels)
    terms = torch.zeros(len(labels), GATE_SIZE, dtype=torch.float64)
    terms[:, 0], terms[:, 1] = advantage, _DISAGREEMENT * advantage.abs()
    return terms / (_NORM * owner.bincount().double()[owner][:, None])


def _right(probabilities: Tensor, labels: Tensor) -> Tensor:
    return (probabilities.double().nan_to_num(0.0, 0.0, 0.0).argmax(dim=1) == labels).double()


@dataclass(frozen=True)
class Verdict:
    """Which generator the gate kept, and how sure it is.

    `gain` is the noisy sum of the patients' advantages over `patients`, the *public nominal* number of those
    held out: the gain in accuracy, up to how far the true number is from it. `noise` is the standard
    deviation of privacy noise in it. From `low` to `high` is a 95 % interval for noise and for the sampling
    of patients; chance in training the two networks and classifiers is not in it.

    `error_rate` is the probability that noise alone turns the sign of a true gain as large as the measured
    one. A gain of at least `resolved`, a public figure, is mistaken in at most one of twenty cases.
    """

    kept: Literal["one_shot", "refined"]
    gain: float
    low: float
    high: float
    noise: float
    error_rate: float
    resolved: float
    patients: float


def decide(noisy: Tensor, deviation: float, patients: float) -> Verdict:
    """Keep the refined generator where the noisy sum [64] over all sites is above 0, else the one-shot's.

    `deviation` ≥ 0 is that of the noise in each number; `patients` > 0 is the nominal number held out.
    """
    advantage, disagreement = float(noisy[0]) * _NORM, float(noisy[1]) * _NORM / _DISAGREEMENT
    # As many as won or lost must have differed, and no more than there are.
    differing = max(min(disagreement, patients), abs(advantage))
    sampled = max(differing - advantage**2 / patients, 0.0)
    noise, gain = deviation * _NORM / patients, advantage / patients
    half = _INTERVAL * math.hypot(noise, math.sqrt(sampled) / patients)
    return Verdict(
        kept="refined" if advantage > 0 else "one_shot",
        gain=gain,
        low=gain - half,
        high=gain + half,
        noise=noise,
        error_rate=_NORMAL.cdf(-abs(gain) / noise) if noise else 0.0,
        resolved=_RESOLVED * noise,
        patients=patients,
    )
