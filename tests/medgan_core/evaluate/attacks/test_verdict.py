"""The verdict's three words, and what turns each into another."""

import math

import numpy as np
import pytest

from medgan_core.errors import ConfigError
from medgan_core.evaluate.attacks.ceiling import auc_ceiling
from medgan_core.evaluate.attacks.figures import AttackFigures, read_attacks
from medgan_core.evaluate.attacks.verdict import AttackRules, AttackVerdict, judge_attacks
from tests.medgan_core.evaluate.attacks.cases import drawn, figure, figures, noisy

RULES = AttackRules()
TWIN = {"nearest": 0.9, "density": 0.7}


def judged(
    found: AttackFigures | None, epsilon: float = 1.0, twin: dict[str, float] | None = TWIN
) -> AttackVerdict:
    return judge_attacks(found, epsilon, 1e-5, RULES, twin)


def test_where_nothing_is_found_and_something_would_have_been_it_passes() -> None:
    verdict = judged(figures(figure(auc=0.51), figure("density", auc=0.49)))
    assert verdict.verdict == "pass"
    assert verdict.limit == auc_ceiling(1, 1e-5)
    assert "850 patients trained on and 150 held out" in verdict.reasons[0]


def test_a_lower_bound_above_the_limit_fails() -> None:
    verdict = judged(figures(figure(auc=0.7, deviation=0.02), figure("density", auc=0.5)))
    assert verdict.verdict == "fail"
    assert len(verdict.reasons) == 1
    assert "nearest attack" in verdict.reasons[0]


@pytest.mark.parametrize(("epsilon", "limit"), [(1.0, 0.575), (8.0, 0.6), (math.inf, 0.6)])
def test_the_limit_is_the_lower_one_of_ceiling_and_rule(epsilon: float, limit: float) -> None:
    just, over = (figures(figure(auc=limit + 1.7 * 0.02 + move)) for move in (-0.002, 0.002))
    assert judged(just, epsilon).limit == pytest.approx(limit, abs=1e-3)
    assert (judged(just, epsilon).verdict, judged(over, epsilon).verdict) == ("pass", "fail")


def test_success_fails_whatever_the_controls_say() -> None:
    found = figures(figure(auc=0.9, control_low=0.6, control_high=0.7))
    assert judged(found, twin=None).verdict == "fail"


@pytest.mark.parametrize(
    ("twin", "reason"),
    [
        (None, "not tried on an overfitted twin"),
        ({}, "No attack finds the overfitted twin"),
        ({"nearest": 0.64}, "best reaches AUC 0.640"),
        ({"nearest": math.nan}, "No attack finds"),
    ],
)
def test_without_an_attack_that_finds_the_twin_it_is_inconclusive(
    twin: dict[str, float] | None, reason: str
) -> None:
    verdict = judged(figures(figure()), twin=twin)
    assert verdict.verdict == "inconclusive"
    assert reason in verdict.reasons[0]


def test_without_power_it_is_inconclusive() -> None:
    verdict = judged(figures(figure(deviation=0.2)))
    assert verdict.verdict == "inconclusive"
    assert "Too few patients" in verdict.reasons[0]


def test_power_counts_only_of_attacks_that_find_the_twin() -> None:
    """A precise attack that sees nothing in the twin does not speak for a blurred one that does."""
    found = figures(figure("nearest", deviation=0.01), figure("density", deviation=0.2))
    assert judged(found, twin={"nearest": 0.5, "density": 0.9}).verdict == "inconclusive"
    assert judged(found, twin={"nearest": 0.9, "density": 0.9}).verdict == "pass"


def test_a_control_that_leaves_one_half_is_inconclusive() -> None:
    verdict = judged(figures(figure(control=0.7, control_low=0.55, control_high=0.8)))
    assert verdict.verdict == "inconclusive"
    assert "one half of the members" in verdict.reasons[0]


@pytest.mark.parametrize("missing", [None, AttackFigures(0, 0, ())])
def test_without_scores_it_is_inconclusive(missing: AttackFigures | None) -> None:
    assert judged(missing).verdict == "inconclusive"


def test_the_three_cases_from_cells() -> None:
    """Scores that overfit, scores that do not, and the same of too few patients."""
    random, names = np.random.default_rng(3), ("nearest", "density")

    def of(members: int, others: int, shift: float, noise: float) -> str:
        trained = noisy(drawn(members, 2, random, shift), noise, random)
        held_out = noisy(drawn(others, 2, random), noise, random)
        found = read_attacks(names, trained, held_out, noise, noise)
        return judged(found, math.inf if shift else 1.0).verdict

    assert of(100, 100, 1.5, 0.0) == "fail"
    assert of(3000, 500, 0.0, 3.0) == "pass"
    assert of(60, 10, 0.0, 3.0) == "inconclusive"


@pytest.mark.parametrize(
    "wrong", [{"max_attack_auc": 0.4}, {"max_attack_auc": 0.8}, {"detectable_auc": 1.1}, {"twin_auc": 0.5}]
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        AttackRules(**wrong)
