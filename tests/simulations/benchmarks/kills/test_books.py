"""What the ledgers must say after a federation: the plan's charges, each once, and ε to the last bit."""

from dataclasses import replace
from pathlib import Path

from medgan_core.messages import Event
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.plan import PrivacyPlan
from server.planning import decided
from simulations.benchmarks.kills.books import doubled, expected_charges, undisturbed
from simulations.benchmarks.kills.measure import small_study


def test_a_plan_charges_each_round_once() -> None:
    study = decided(small_study(["rounds=3"]))
    charges = expected_charges(study)
    assert [(number, phase) for number, phase, _ in charges] == [
        (0, "one_shot"),
        (1, "train"),
        (2, "train"),
        (3, "train"),
        (4, "gate"),
        (5, "evaluate"),
    ]
    assert charges[1][2].steps == PrivacyPlan.of(study, "patient").steps
    assert doubled(charges, 2) == 0
    assert doubled((*charges, charges[2], charges[2]), 2) == 2
    assert replace(charges[1][2], steps=1) != charges[1][2]


def test_a_run_that_nobody_disturbs_spends_what_the_plan_costs(tmp_path: Path) -> None:
    study = decided(small_study(["rounds=1", "training.discriminator_steps=1"]))
    events: dict[bool, list[Event]] = {True: [], False: []}
    for _, phase, event in expected_charges(study):
        events[phase in ("one_shot", "train")].append(event)
    costs = sorted(epsilon(used, study.privacy.delta) for used in events.values())
    assert undisturbed(study, tmp_path) == {"site-1": costs, "site-2": costs}
