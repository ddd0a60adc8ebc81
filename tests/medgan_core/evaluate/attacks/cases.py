"""Cells of attacks as sites would send them, made from scores that are known."""

import math

import numpy as np
from numpy.typing import NDArray

from medgan_core.evaluate.attacks.bins import BINS
from medgan_core.evaluate.attacks.figures import AttackFigure, AttackFigures

Floats = NDArray[np.float64]


def cells_of(bins: NDArray[np.int64], halves: NDArray[np.int64]) -> Floats:
    """The sum [A, 2, 12] over patients with one image each, in these `bins` [n, A] and `halves` [n]."""
    attacks = bins.shape[1]
    cells = np.zeros((attacks, 2, BINS))
    for attack in range(attacks):
        np.add.at(cells[attack], (halves, bins[:, attack]), 1 / math.sqrt(attacks))
    return cells


def drawn(patients: int, attacks: int, random: np.random.Generator, shift: float = 0.0) -> Floats:
    """Cells of patients whose scores are normal, `shift` standard deviations above the others'."""
    bins = np.clip(np.floor(2 * random.normal(shift, 1, (patients, attacks)) + BINS / 2), 0, BINS - 1)
    return cells_of(bins.astype(np.int64), random.integers(0, 2, patients))


def noisy(cells: Floats, deviation: float, random: np.random.Generator) -> Floats:
    return cells + random.normal(0, deviation, cells.shape)


def figure(name: str = "nearest", auc: float = 0.5, deviation: float = 0.02, **rest: float) -> AttackFigure:
    """The figure of one attack, with an interval of about 95 % about `auc`."""
    low, high = (auc + sign * 1.7 * deviation for sign in (-1, 1))
    interval = {"control": 0.5, "control_low": 0.45, "control_high": 0.55} | rest
    return AttackFigure(name, auc, low, high, deviation, **interval, roc=((0.0, 0.0), (1.0, 1.0)))


def figures(*each: AttackFigure) -> AttackFigures:
    return AttackFigures(850.0, 150.0, each)
