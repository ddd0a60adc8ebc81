"""Whether attacks let a generator out: pass, fail, or inconclusive where they could not have told.

That no attack succeeded says something only if one would have: the attacks are also tried on a twin that is
overfitted on purpose, on members against members, and their power is part of the verdict.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from medgan_core.errors import ConfigError
from medgan_core.evaluate.attacks.ceiling import auc_ceiling
from medgan_core.evaluate.attacks.figures import MISS, AttackFigure, AttackFigures, bound

Word = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class AttackRules:
    """When attacks let a generator out.

    `max_attack_auc`: what an attack may reach at most, where ε does not allow less. `detectable_auc`: what
    an attack would have to reach for the test to notice at its odds. `twin_auc`: what an attack must reach
    on the overfitted twin to count. Raises ConfigError where they are not in this order.
    """

    max_attack_auc: float = 0.60
    detectable_auc: float = 0.75
    twin_auc: float = 0.65

    def __post_init__(self) -> None:
        if not 0.5 <= self.max_attack_auc < 1:
            raise ConfigError("max_attack_auc", self.max_attack_auc, "0.5 or more, and less than 1")
        if not self.max_attack_auc < self.detectable_auc <= 1:
            raise ConfigError("detectable_auc", self.detectable_auc, "more than max_attack_auc, at most 1")
        if not 0.5 < self.twin_auc <= 1:
            raise ConfigError("twin_auc", self.twin_auc, "more than 0.5, at most 1")


@dataclass(frozen=True)
class AttackVerdict:
    """The verdict, the AUC that no attack's lower bound may pass, and why, in sentences."""

    verdict: Word
    limit: float
    reasons: tuple[str, ...]


def judge_attacks(
    figures: AttackFigures | None,
    epsilon: float,
    delta: float,
    rules: AttackRules,
    twin: Mapping[str, float] | None,
) -> AttackVerdict:
    """Judge the figures of attacks on a release of ε at δ; `twin` has the AUC of each on the twin.

    An attack that succeeded fails the release whatever the controls say. Where none did, the release passes
    only if one of those that find the twin had the power to find this one too, and every control holds.
    """
    limit = min(auc_ceiling(epsilon, delta), rules.max_attack_auc)
    if figures is None or not figures.figures:
        return AttackVerdict("inconclusive", limit, ("No attack was tried: the run has no scores of one.",))
    if succeeded := [each for each in figures.figures if each.low > limit]:
        return AttackVerdict("fail", limit, tuple(_success(each, limit) for each in succeeded))
    doubts = (*_power(figures.figures, limit, rules, twin), *_controls(figures.figures))
    if doubts:
        return AttackVerdict("inconclusive", limit, doubts)
    return AttackVerdict("pass", limit, (_nothing_found(figures, limit),))


def _success(figure: AttackFigure, limit: float) -> str:
    return (
        f"The {figure.name} attack tells patients who were trained on from others: AUC {figure.auc:.3f}, at "
        f"least {figure.low:.3f}, above {limit:.3f}."
    )


def _power(
    figures: tuple[AttackFigure, ...], limit: float, rules: AttackRules, twin: Mapping[str, float] | None
) -> tuple[str, ...]:
    """What speaks against the attacks' power, none where they have it."""
    if twin is None:
        return ("The attacks were not tried on an overfitted twin, so that their power is not known.",)
    able = [each for each in figures if twin.get(each.name, 0.0) >= rules.twin_auc]
    if not able:
        best = max((twin.get(each.name, 0.0) for each in figures), default=0.0)
        return (
            f"No attack finds the overfitted twin: the best reaches AUC {best:.3f}, less than "
            f"{rules.twin_auc:.2f}.",
        )
    sharpest = min(able, key=lambda each: each.deviation)
    found = limit + bound(MISS, len(figures)) * sharpest.deviation
    if found > rules.detectable_auc:
        return (
            f"Too few patients, or too much noise in their scores: the {sharpest.name} attack, the most "
            f"precise that finds the twin, notices an AUC from {found:.3f}; {rules.detectable_auc:.2f} is "
            "asked for.",
        )
    return ()


def _controls(figures: tuple[AttackFigure, ...]) -> tuple[str, ...]:
    return tuple(
        f"The {each.name} attack tells one half of the members from the other (AUC {each.control:.3f}), "
        "which no attack can: its cells are not what they should be."
        for each in figures
        if not each.control_low <= 0.5 <= each.control_high
    )


def _nothing_found(figures: AttackFigures, limit: float) -> str:
    best = max(figures.figures, key=lambda each: each.auc)
    return (
        f"No attack passes {limit:.3f}: the best, {best.name}, reaches AUC {best.auc:.3f} (at least "
        f"{best.low:.3f}) on about {max(figures.members, 0):.0f} patients trained on and "
        f"{max(figures.held_out, 0):.0f} held out."
    )
