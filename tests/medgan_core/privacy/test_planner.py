"""The planner's figures are the closed forms, move as they must, and come from public facts alone."""

import inspect
import math
from dataclasses import FrozenInstanceError
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.config import Study, parse_study
from medgan_core.errors import ConfigError
from medgan_core.messages import Phase
from medgan_core.privacy.grid import STEPS
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.planner import ROUND_NOISE, Advice, Outlook, advise

WEIGHTS = 10_000
GIVEN = {"noise_multiplier": 1.5, "one_shot_noise_multiplier": 0.8}


def study(privacy: dict[str, Any] | None = None, *, rounds: int = 2, **sites: Any) -> Study:
    return parse_study(
        {
            "name": "x",
            "strategy": "refine",
            "rounds": rounds,
            "data": {"kind": "npz", "path": "nowhere", "classes": ["a", "b"]},
            "sites": {"count": 4, "nominal_patients": 600} | sites,
            "privacy": {"epsilon": 10.0, "sampling_rate": 0.1} | (GIVEN if privacy is None else privacy),
            "one_shot": {"frequencies": 50, "count_weight": 0.2},
            "training": {"discriminator_steps": 25},
            "evaluation": {"gate": False},
        }
    )


def of(advice: Advice, strategy: Any, noise: Any) -> Outlook:
    found = advice.of(strategy, noise)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def advice() -> Advice:
    return advise(study(), WEIGHTS)


def test_every_strategy_is_shown_beside_the_pooled_ceiling(advice: Advice) -> None:
    shown = [(outlook.strategy, outlook.noise) for outlook in advice.outlooks]
    assert shown == [(s, n) for s in ("one_shot", "refine") for n in ("local", "secure", "pooled")]
    with pytest.raises(FrozenInstanceError):
        advice.strategy = "refine"  # type: ignore[misc]
    assert list(inspect.signature(advise).parameters) == ["study", "weights"]


def test_the_noise_of_the_embedding_is_the_closed_form(advice: Advice) -> None:
    scale = 0.8 * math.sqrt(1 + 0.2**2) / (4 * 600 / 2)
    figures = {"local": scale * math.sqrt(4), "secure": scale * math.sqrt(4 / 3), "pooled": scale}
    for noise, expected in figures.items():
        outlook = of(advice, "one_shot", noise)
        assert outlook.embedding_noise == pytest.approx(expected, rel=1e-3)
        assert outlook.embedding_ratio == pytest.approx(expected * math.sqrt(2 * 50 * 2), rel=1e-3)
        assert (outlook.step_noise, outlook.step_ratio, outlook.round_ratio) == (None, None, None)
    event = of(advice, "one_shot", "secure").plan.event(Phase.ONE_SHOT)
    total = event.share_deviation / STEPS * math.sqrt(4)
    assert of(advice, "one_shot", "secure").embedding_noise == total * math.sqrt(1.04) / 1200


def test_the_noise_of_a_step_is_the_closed_form(advice: Advice) -> None:
    for noise, sites, batch in (("local", 4, 60), ("secure", 4, 60), ("pooled", 1, 240)):
        outlook = of(advice, "refine", noise)
        length = 1.5 * math.sqrt(WEIGHTS) / (batch * math.sqrt(sites))
        assert outlook.step_ratio == pytest.approx(length)
        assert outlook.step_noise == pytest.approx(length / math.sqrt(WEIGHTS))
        assert outlook.round_ratio == pytest.approx(length / math.sqrt(25))


def test_weights_of_the_sites_and_a_declared_batch_are_heard() -> None:
    asked = study(GIVEN | {"nominal_batch": 30.0, "clip_norm": 2.0}, weights=[1.0, 1.0, 1.0, 3.0])
    local, pooled = (of(advise(asked, WEIGHTS), "refine", noise) for noise in ("local", "pooled"))
    averaged = math.sqrt(12) / 6
    assert local.step_noise == pytest.approx(1.5 * 2.0 * averaged / 30)
    assert local.step_ratio == pytest.approx(1.5 * averaged / 30 * math.sqrt(WEIGHTS))
    assert pooled.step_noise == pytest.approx(1.5 * 2.0 / 120)


def test_each_outlook_has_the_epsilon_of_its_own_plan() -> None:
    advice = advise(study({"epsilon": 4.0}), WEIGHTS)
    for outlook in advice.outlooks:
        assert 3.9 <= outlook.epsilon <= 4.0
        assert outlook.epsilon == outlook.plan.epsilon()
        assert outlook.local_epsilon == outlook.plan.local_epsilon()
        assert (outlook.local_epsilon > 4.0) == (outlook.noise == "secure")
        assert outlook.plan.rounds == (2 if outlook.strategy == "refine" else 0)
    alone, first = (of(advice, strategy, "local") for strategy in ("one_shot", "refine"))
    assert alone.embedding_noise < first.embedding_noise  # rounds are paid for


@settings(max_examples=6, deadline=None)
@given(st.integers(3, 30), st.integers(50, 5000), st.integers(1, 12), st.floats(1.0, 3.0))
def test_more_sites_or_patients_never_mean_more_noise(
    count: int, patients: int, more: int, larger: float
) -> None:
    few = advise(study(count=count, nominal_patients=patients), WEIGHTS)
    for other in (
        study(count=count + more, nominal_patients=patients),
        study(count=count, nominal_patients=math.ceil(larger * patients)),
    ):
        for before, after in zip(few.outlooks, advise(other, WEIGHTS).outlooks, strict=True):
            assert after.embedding_noise <= before.embedding_noise * (1 + 1e-9)
            if before.step_ratio is not None and after.step_ratio is not None:
                assert after.step_ratio <= before.step_ratio * (1 + 1e-9)


def test_more_epsilon_never_means_more_noise() -> None:
    asked = [advise(study({"epsilon": value}), WEIGHTS).outlooks for value in (1.0, 2.0, 8.0)]
    for before, after in pairwise(asked):
        for small, large in zip(before, after, strict=True):
            assert large.embedding_noise < small.embedding_noise
            if small.round_ratio is not None and large.round_ratio is not None:
                assert large.round_ratio < small.round_ratio


@pytest.mark.parametrize("secure", [False, True])
def test_rounds_are_recommended_up_to_the_documented_noise(secure: bool) -> None:
    """The noise of a round falls with the nominal size: just below and above the threshold."""
    length = 1.5 * math.sqrt(WEIGHTS) / (0.1 * math.sqrt(4 * 25))
    patients = length / ROUND_NOISE
    asked = GIVEN | {"secure_sum": secure}
    for size, strategy in ((math.ceil(patients) + 1, "refine"), (math.floor(patients) - 1, "one_shot")):
        advice = advise(study(asked, nominal_patients=size), WEIGHTS)
        assert advice.strategy == strategy
        assert advice.reasons[0].startswith(f"{strategy}: ")
        assert any("(privacy.secure_sum)" in reason for reason in advice.reasons) == (not secure)


def test_it_goes_by_the_noise_of_the_sums_that_the_study_asks_for() -> None:
    """The grid's start costs a little more of ε: between the two sizes only local noise leaves enough."""
    asked = {"epsilon": 8.0}
    outlooks = advise(study(asked), WEIGHTS)
    local, secure = (of(outlooks, "refine", noise).round_ratio or 0.0 for noise in ("local", "secure"))
    assert local < secure
    size = round(600 * (local + secure) / 2 / ROUND_NOISE)
    for sums, strategy in ((False, "refine"), (True, "one_shot")):
        assert (
            advise(study(asked | {"secure_sum": sums}, nominal_patients=size), WEIGHTS).strategy == strategy
        )


def test_it_says_how_much_larger_batches_would_have_to_be() -> None:
    length = 1.5 * math.sqrt(WEIGHTS) / (0.1 * math.sqrt(4 * 25))
    third = advise(study(nominal_patients=round(length / ROUND_NOISE / 3)), WEIGHTS)
    assert "batches 3 times as large, of as many more patients" in third.reasons[0]


def test_a_secure_sum_that_cannot_be_is_refused_where_it_is_asked_for_and_else_not_shown() -> None:
    for sites, privacy in ((2, {}), (4, {"collude": 4}), (4, {"drop": 3})):
        shown = advise(study(GIVEN | privacy, count=sites), WEIGHTS).outlooks
        assert {outlook.noise for outlook in shown} == {"local", "pooled"}
        with pytest.raises(ConfigError, match="privacy"):
            advise(study(GIVEN | privacy | {"secure_sum": True}, count=sites), WEIGHTS)


def test_two_sites_have_no_secure_sum_and_no_rounds_no_refinement() -> None:
    advice = advise(study(count=2, rounds=0), WEIGHTS)
    assert [(o.strategy, o.noise) for o in advice.outlooks] == [("one_shot", "local"), ("one_shot", "pooled")]
    assert advice.strategy == "one_shot"
    assert advice.reasons == ("one_shot: the study has no adversarial rounds",)


def test_without_privacy_there_is_no_noise_to_fear() -> None:
    advice = advise(study({"mode": "off"}), WEIGHTS)
    assert advice.strategy == "refine"
    assert {(o.embedding_noise, o.step_ratio or 0.0, o.epsilon) for o in advice.outlooks} == {
        (0.0, 0.0, math.inf)
    }
    assert "is 0 of the clip norm" in advice.reasons[0]


def test_classes_that_only_the_data_know_are_asked_for() -> None:
    body = study().to_dict()
    del body["data"]["classes"]
    with pytest.raises(ConfigError, match=r"data\.classes = \(\): expected the classes by name"):
        advise(parse_study(body), WEIGHTS)


def test_an_undecided_study_has_no_plan() -> None:
    undecided = parse_study(study().to_dict() | {"strategy": "auto"})
    with pytest.raises(ConfigError, match="strategy = 'auto': expected one_shot or refine"):
        PrivacyPlan.of(undecided, "patient")
    assert advise(undecided, WEIGHTS) == advise(study(), WEIGHTS)
