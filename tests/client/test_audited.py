"""An audit of the real functions of a site, and of mutants of them: each is killed, by a named check."""

from dataclasses import replace
from functools import cache, partial
from itertools import count
from typing import Any, get_args

import numpy as np
import pytest

from client.audited import answers, mechanism_of
from client.hospital import held_out_by
from medgan_core.errors import ConfigError
from medgan_core.messages import Event, Phase
from medgan_core.patients import Pseudonym
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.audit import bounds, checks
from medgan_core.privacy.audit.canaries import single_run, spikes
from medgan_core.privacy.audit.checks import Check, Outcome, Verdict
from medgan_core.privacy.audit.mechanism import Mechanism
from medgan_core.privacy.audit.mutants import MUTANTS, Mutant
from medgan_core.privacy.audit.run import EXIT_CODES, AuditReport, Trial, audit, killed_by, self_test
from medgan_core.privacy.noise import SeededRandom
from medgan_core.privacy.noise_watch import STOP
from tests.simulations.making import tiny_study

KILLERS = {
    "half the noise": "noise",
    "no clip": "canary by step",
    "noise reused": "noise",
    "shuffling instead of Poisson": "participation",
    "steps under-counted": "round: train",
    "backward twice": "canary by step",
    "fakes made from a patient": "canary by step",
    "a split that depends on others": "split",
    "image counts instead of patient means": "one-shot query",
    "a replay to a changed cohort": "replay",
}
NAMED = {mutant.name: mutant for mutant in MUTANTS}
RATE, STEPS = 64 / 5000, 500
TARGETS = {0.9: 1.434, 1.7: 1.008, 3.36: 0.772, 6.8: 0.607}
"""ε by PRV, and the noise multiplier that gives it at 500 steps of 64 among 5,000."""


def sound(seed: int = 0, **changes: Any) -> Mechanism:
    """The tiny study's mechanism, its noise the same in every test and new in every check."""
    made = mechanism_of(tiny_study())
    plan, seeds = replace(made.plan, **changes), count(1000 * seed)
    return replace(made, plan=plan, runs=plan, random=lambda: SeededRandom(next(seeds)))


@cache
def published(sigma: float, seed: int = 0) -> Mechanism:
    """The setting of the published figures: 64 of 5,000 patients, 500 steps."""
    return sound(
        seed, noise_multiplier=sigma, sampling_rate=RATE, nominal_batch=64.0, steps=50, rounds=STEPS // 50
    )


def failed(check: Check, mechanism: Mechanism) -> list[str]:
    return [outcome.name for outcome in check(mechanism) if outcome.verdict == "failed"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_killed(mutant: Mutant) -> None:
    assert killed_by(mutant, sound()) == KILLERS[mutant.name]


def test_every_mutant_of_the_contract_is_tried() -> None:
    assert set(NAMED) == set(KILLERS)


def test_without_clipping_the_study_s_own_network_shows_it_too() -> None:
    assert failed(checks.clipping, NAMED["no clip"].make(sound())) == ["clipping"]


def test_fakes_made_from_a_patient_change_what_leaves_a_real_round() -> None:
    mutant = NAMED["fakes made from a patient"].make(sound())
    assert failed(checks.fakes, sound()) == []
    assert failed(checks.fakes, mutant) == ["fakes"]


def test_image_counts_are_seen_in_every_query() -> None:
    mutant = NAMED["image counts instead of patient means"].make(sound())
    assert failed(checks.queries, mutant) == ["one-shot query", "gate", "evaluation", "attack"]


def test_a_query_with_half_the_noise_is_seen_in_its_round() -> None:
    made = sound()
    plan = made.plan
    for phase, runs in (
        (Phase.ONE_SHOT, replace(plan, one_shot_noise_multiplier=plan.one_shot_noise_multiplier / 2)),
        (Phase.GATE, replace(plan, gate_noise_multiplier=plan.gate_noise_multiplier / 2)),
        (Phase.EVALUATE, replace(plan, evaluation_noise_multiplier=plan.evaluation_noise_multiplier / 2)),
    ):
        assert failed(checks.rounds, replace(made, runs=runs)) == [f"round: {phase}"]


def test_a_share_of_a_secure_sum_with_half_the_noise_is_seen() -> None:
    made = mechanism_of(tiny_study(privacy__secure_sum=True, sites__count=3))
    plan, source = made.plan, partial(SeededRandom, 5)
    seen = failed(checks.rounds, replace(made, random=source))
    assert seen == []
    less = replace(plan, one_shot_noise_multiplier=plan.one_shot_noise_multiplier / 2)
    assert failed(checks.rounds, replace(made, runs=less, random=source)) == ["round: one_shot"]


def test_a_sound_mechanism_passes() -> None:
    report = audit(sound(3), mutants=[NAMED["half the noise"]])
    assert report.verdict == "passed", report
    assert report.to_json()["mutants"] == {"half the noise": "noise"}
    figures = {outcome.name: outcome.figures for outcome in report.outcomes}
    for name in ("noise", "canary by step"):
        assert 0 < figures[name]["epsilon"] <= 1.02 * figures[name]["claimed"]
    assert figures["one run"].keys() == {"epsilon", "expected", "claimed"}


def test_a_mutant_that_survives_makes_the_audit_inconclusive() -> None:
    harmless = Mutant("harmless", lambda mechanism: mechanism)
    lines: list[str] = []
    trials = self_test(sound(4), lines.append, [harmless])
    assert lines == ["SURVIVED: harmless"]
    passed = Outcome("noise", "passed", "", 0.5)
    report = AuditReport(trials, (passed,))
    assert report.verdict == "inconclusive"
    assert report.to_json()["mutants"] == {"harmless": None}


def test_what_fails_has_the_last_word() -> None:
    passed, failed_, unsure = (Outcome("x", verdict, "") for verdict in get_args(Verdict))
    killed, alive = (Trial("y", by) for by in ("noise", ""))
    for trial, outcomes, expected in (
        (killed, (passed, passed), "passed"),
        (killed, (passed, unsure), "inconclusive"),
        (alive, (passed, passed), "inconclusive"),
        (alive, (failed_, unsure), "failed"),
    ):
        assert AuditReport((trial,), outcomes).verdict == expected
    assert EXIT_CODES == {"passed": 0, "failed": 1, "inconclusive": 4}


def test_half_the_noise_shows_as_more_epsilon_than_was_charged() -> None:
    wrong = NAMED["half the noise"].make(sound(5))
    for outcome in checks.measured(wrong):
        assert outcome.verdict == "failed"
        assert outcome.figures["epsilon"] > outcome.figures["claimed"]


def test_without_privacy_there_is_nothing_to_audit() -> None:
    with pytest.raises(ConfigError, match="no noise to audit"):
        audit(mechanism_of(tiny_study(privacy__mode="off")))


def test_tasks_whose_fakes_are_patients_images_are_audited_as_one_mechanism() -> None:
    made = mechanism_of(tiny_study(task="restoration", strategy="refine", sites__nominal_patients=50))
    assert failed(checks.clipping, made) == []
    assert failed(checks.fakes, made) == []
    assert failed(checks.clipping, NAMED["no clip"].make(made)) == ["clipping"]


def test_steps_that_are_summed_securely_are_out_of_reach_of_canaries() -> None:
    study = tiny_study(privacy__secure_sum=True, sites__count=3, share="gradient")
    made = mechanism_of(study)
    report = audit(made, mutants=[mutant for mutant in MUTANTS if not mutant.of_steps])
    assert report.verdict == "inconclusive"
    assert all(trial.killed_by for trial in report.trials)


def test_the_split_of_a_hospital_looks_at_one_patient_alone() -> None:
    secret = partial(Pseudonym.of, b"key")
    made = mechanism_of(tiny_study(), held_out=lambda key: held_out_by(secret, key))
    assert failed(checks.split, made) == []


def test_a_ledger_answers_another_cohort_with_a_charge_and_not_without_end() -> None:
    with answers() as answer:
        assert [answer(cohort) for cohort in ("a", "a", "b", "b", "c")] == [
            "fresh",
            "replayed",
            "fresh",
            "replayed",
            "refused",
        ]


# What the bounds reach


@pytest.mark.parametrize(("prv", "sigma"), TARGETS.items())
def test_canaries_by_step_reach_0_6_to_1_0_of_epsilon(prv: float, sigma: float) -> None:
    made = published(sigma)
    event, delta = made.training, made.plan.delta
    claimed = epsilon((event,), delta)
    assert claimed == pytest.approx(prv, rel=0.02)
    seen = spikes(made, 2000)
    move = bounds.gaussian_move(seen.absent.ravel(), seen.present.ravel())
    assert 0.6 <= bounds.epsilon_of_move(move, event, delta) / claimed <= 1.0


@pytest.mark.parametrize(("prv", "sigma"), TARGETS.items())
def test_the_noise_reaches_0_95_of_epsilon(prv: float, sigma: float) -> None:
    made = published(sigma)
    event, delta = made.training, made.plan.delta
    seen = spikes(made, 16_000).reading
    assert seen.count >= 5000
    found = epsilon((replace(event, noise_multiplier=sigma * seen.deviation),), delta)
    assert 0.95 <= found / epsilon((event,), delta) <= 1.0


def test_null_scores_give_no_epsilon() -> None:
    random, found = np.random.default_rng(0), []
    for _ in range(200):
        absent, present = random.normal(0.5, 1.0, (2, 2000))  # a canary that was never there
        found.append(bounds.gaussian_move(absent, present))
    assert sum(move == 0 for move in found) >= 190


def test_null_guesses_give_no_epsilon() -> None:
    random = np.random.default_rng(1)
    rights = random.binomial(400, 0.5, 200)
    found = [bounds.one_run(400, int(right), 1000, 1e-5) for right in rights]
    assert sum(value == 0 for value in found) >= 190


def test_one_run_finds_what_rehearsals_promise_within_its_scatter() -> None:
    seen = single_run(published(0.607), 1000, STEPS)
    assert 0 <= seen.epsilon < epsilon((Event(0.607, RATE, STEPS),), 1e-5)
    assert 0.2 < seen.expected < 1.0
    assert seen.joined.mean() == pytest.approx(STEPS * RATE, rel=0.1)


def test_200_null_audits_raise_no_alarm() -> None:
    """Of noise, canaries and participation of one sound mechanism, each over 200 draws."""
    p_values: dict[str, list[float]] = {}
    for seed in range(200):
        made = published(1.008, 100 + seed)
        outcomes = (*checks.noise_and_canaries(made), *checks.participation(made))
        for outcome in outcomes:
            p_values.setdefault(outcome.name, []).append(outcome.p_value)
    assert set(p_values) == {"noise", "canary by step", "participation"}
    for name, values in p_values.items():
        assert min(values) >= STOP, name
        assert sum(value < 0.05 for value in values) <= 18, name
