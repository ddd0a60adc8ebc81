"""Releases with cells of attacks, as sites would have released them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from medgan_core.config import SCORE_BINS
from medgan_core.messages import Array, Phase
from medgan_core.privacy.grid import total_deviation
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.release.bundle import Release
from medgan_core.release.check.policy import Policy
from tests.medgan_core.release.making import CARD, METRICS, Parties, study_with

LENIENT = Policy(least_difference=0.0, max_duplicates=1.0)
"""For generators that were never trained, whose images hardly differ."""
NAMES = ("discriminator", "nearest")
TWIN = {"discriminator": 0.9, "nearest": 0.8}


def attack_metrics(
    auc: float,
    members: float = 4000,
    held_out: float = 1000,
    noise: float = 1.0,
    names: Sequence[str] = NAMES,
) -> dict[str, Any]:
    """What a run tells of attacks that reach this AUC with Gaussian scores, without a draw of noise."""
    move = np.sqrt(2) * norm.ppf(auc)
    edges = np.linspace(-3, 3, 13)[1:-1] + move / 2

    def cells(mean: float, patients: float) -> Array:
        shares = np.diff(norm.cdf([-np.inf, *edges, np.inf], loc=mean))
        return np.broadcast_to(shares * patients / 2 / np.sqrt(len(names)), (len(names), 2, 12))

    return {
        "names": list(names),
        "members": cells(move, members).round(3).tolist(),
        "held_out": cells(0, held_out).round(3).tolist(),
        "noise_members": noise,
        "noise_held_out": noise,
    }


def build_attacked(parties: Parties, folder: Path, auc: float) -> Release:
    """A signed release of a study that asked for attacks, with the noise that its plan gives their cells."""
    asked = {"evaluation.attack": True}
    study = study_with(asked)
    plan, sites = PrivacyPlan.of(study, CARD.unit), len(parties.sites)
    told = attack_metrics(auc, names=study.attacks)
    for name, phase in (("members", Phase.ATTACK), ("held_out", Phase.CONTROL)):
        told[f"noise_{name}"] = total_deviation(plan.event(phase), sites)
    return parties.build(folder, asked, metrics=metrics_with(attacks=told))


def histogram(counts: Mapping[int, tuple[float, float]]) -> list[list[list[float]]]:
    """Cells of two classes: patients found right and wrong, by class."""
    cells = np.zeros((2, 2, SCORE_BINS))
    for true, (right, wrong) in counts.items():
        cells[true, true, 3], cells[true, 1 - true, 0] = right, wrong
    told: list[list[list[float]]] = cells.tolist()
    return told


def metrics_with(**more: Any) -> dict[str, Any]:
    released = {"accuracy": 0.81, "balanced_accuracy": 0.8, "auc": 0.86}
    return {**METRICS, "released": released, **more}
