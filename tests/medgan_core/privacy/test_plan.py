import inspect
import math
import re
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn, optim

from medgan_core.config import Study, parse_study
from medgan_core.errors import ConfigError
from medgan_core.messages import Event, Phase
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.noise import SeededRandom
from medgan_core.privacy.plan import PrivacyPlan

REPOSITORY = Path(__file__).parents[3]
PRIVACY = {"epsilon": 8.0, "delta": 1e-5, "sampling_rate": 0.1}


def _study(
    privacy: dict[str, Any] | None = None, *, rounds: int = 2, steps: int = 10, **sections: dict[str, Any]
) -> Study:
    body: dict[str, Any] = {
        "name": "x",
        "strategy": "refine",
        "rounds": rounds,
        "data": {"kind": "npz", "path": "x"},
        "privacy": PRIVACY | (privacy or {}),
        "training": {"discriminator_steps": steps},
    }
    sections["evaluation"] = {"attack": False} | sections.get("evaluation", {})
    return parse_study(body | sections)


@pytest.fixture(scope="module")
def plan() -> PrivacyPlan:
    return PrivacyPlan.of(_study(), "patient")


def test_a_plan_is_made_of_public_facts_alone(plan: PrivacyPlan) -> None:
    assert list(inspect.signature(PrivacyPlan.of).parameters) == ["study", "unit"]
    again = PrivacyPlan.of(_study(data={"kind": "dicom", "path": "another/place"}), "patient")
    assert again == plan
    assert again.digest() == plan.digest()


def test_a_plan_cannot_be_changed(plan: PrivacyPlan) -> None:
    with pytest.raises(FrozenInstanceError):
        plan.noise_multiplier = 0.0  # type: ignore[misc]


def test_what_was_declared_is_what_will_run() -> None:
    asked = {
        "noise_multiplier": 1.5,
        "one_shot_noise_multiplier": 2.5,
        "clip_norm": 0.7,
        "delta": 1e-6,
        "sampling_rate": 0.3,
        "max_images_per_patient": 2,
        "max_sites_per_patient": 3,
    }
    plan = PrivacyPlan.of(_study(asked, rounds=4, steps=7, sites={"nominal_patients": 200}), "image")
    assert (plan.clip_norm, plan.delta, plan.sampling_rate, plan.nominal_batch) == (0.7, 1e-6, 0.3, 60.0)
    assert (plan.noise_multiplier, plan.one_shot_noise_multiplier) == (1.5, 2.5)
    assert (plan.rounds, plan.steps, plan.unit, plan.neighbours) == (4, 7, "image", "add/remove")
    assert (plan.max_images_per_patient, plan.max_sites_per_patient, plan.private) == (2, 3, True)
    assert plan.event(Phase.TRAIN) == Event(1.5, 0.3, 7)
    assert plan.event(Phase.ONE_SHOT) == Event(2.5, 1.0, 1)
    assert plan.event(Phase.EVALUATE) == Event(plan.evaluation_noise_multiplier, 1.0, 1)


def test_the_plan_stays_within_the_epsilon_that_was_asked_and_uses_it(plan: PrivacyPlan) -> None:
    assert 8.0 * 0.99 <= plan.epsilon() <= 8.0
    for account in ("training", "held_out"):
        assert 8.0 * 0.99 <= epsilon(plan.events(account), 1e-5) <= 8.0


def test_the_one_shot_query_alone_gets_its_share(plan: PrivacyPlan) -> None:
    alone = epsilon([plan.event(Phase.ONE_SHOT)], 1e-5)
    assert 0.8 * 8.0 * 0.99 <= alone <= 0.8 * 8.0


def test_the_events_of_a_run_are_its_one_shot_query_and_every_round(plan: PrivacyPlan) -> None:
    step = Event(plan.noise_multiplier, 0.1, 10)
    assert plan.events("training") == (Event(plan.one_shot_noise_multiplier, 1.0, 1), step, step)
    judging = (plan.gate_noise_multiplier, plan.evaluation_noise_multiplier)
    assert plan.events("held_out") == tuple(Event(sigma, 1.0, 1) for sigma in judging)


def test_held_out_patients_have_their_own_account(plan: PrivacyPlan) -> None:
    held_out = {phase for phase in Phase if plan.account(phase) == "held_out"}
    assert held_out == {Phase.GATE, Phase.EVALUATE, Phase.CONTROL}


def test_gate_and_evaluation_share_the_epsilon_of_the_held_out_patients(plan: PrivacyPlan) -> None:
    alone = epsilon([plan.event(Phase.GATE)], 1e-5)
    assert 0.4 * 8.0 * 0.99 <= alone <= 0.4 * 8.0
    without = PrivacyPlan.of(_study(evaluation={"gate": False}), "patient")
    assert without.evaluation_noise_multiplier < plan.evaluation_noise_multiplier
    assert plan.evaluation_noise_multiplier < 1.15 * without.evaluation_noise_multiplier
    asked = _study({"noise_multiplier": 2.0}, evaluation={"epsilon": 2.0, "gate_share": 0.7})
    other = PrivacyPlan.of(asked, "patient")
    assert 0.7 * 2.0 * 0.99 <= epsilon([other.event(Phase.GATE)], 1e-5) <= 0.7 * 2.0
    assert 2.0 * 0.99 <= epsilon(other.events("held_out"), 1e-5) <= 2.0


@pytest.mark.parametrize(("rounds", "gate"), [(0, True), (2, False)])
def test_without_rounds_or_where_a_study_wants_none_there_is_no_gate(rounds: int, gate: bool) -> None:
    plan = PrivacyPlan.of(_study(rounds=rounds, evaluation={"gate": gate}), "patient")
    assert (plan.gate, plan.gate_noise_multiplier) == (False, 0.0)
    assert plan.events("held_out") == (plan.event(Phase.EVALUATE),)
    assert [plan.phase(number) for number in range(rounds + 1, rounds + 3)] == [Phase.EVALUATE, None]


def test_the_phases_of_a_gated_run_and_what_each_is_charged(plan: PrivacyPlan) -> None:
    phases = [Phase.ONE_SHOT, Phase.TRAIN, Phase.TRAIN, Phase.GATE, Phase.EVALUATE, None]
    assert [plan.phase(number) for number in range(6)] == phases
    assert plan.phase(-1) is None
    told = plan.events("training") + plan.events("held_out")
    assert told == tuple(plan.event(phase) for phase in phases if phase is not None)


def test_the_epsilon_of_a_run_is_the_larger_of_its_accounts() -> None:
    for evaluation, larger in ((1.0, "training"), (12.0, "held_out")):
        plan = PrivacyPlan.of(_study(evaluation={"epsilon": evaluation}, rounds=0), "patient")
        costs = {name: epsilon(plan.events(name), 1e-5) for name in ("training", "held_out")}
        assert plan.epsilon() == costs[larger] == max(costs.values())
        assert 0.99 * evaluation <= costs["held_out"] <= evaluation


def test_given_noise_epsilon_is_told() -> None:
    plan = PrivacyPlan.of(_study({"noise_multiplier": 0.7, "one_shot_noise_multiplier": 1.1}), "patient")
    assert plan.epsilon() == epsilon([Event(1.1, 1.0, 1), Event(0.7, 0.1, 20)], 1e-5)


def test_without_rounds_the_one_shot_query_gets_everything() -> None:
    plan = PrivacyPlan.of(_study(rounds=0), "patient")
    assert plan.events("training") == (Event(plan.one_shot_noise_multiplier, 1.0, 1),)
    assert 8.0 * 0.99 <= epsilon(plan.events("training"), 1e-5) <= 8.0


def test_a_patient_at_several_sites_composes(plan: PrivacyPlan) -> None:
    twice = replace(plan, max_sites_per_patient=2)
    accounts = (plan.events("training"), plan.events("held_out"))
    assert twice.epsilon() == max(epsilon(events * 2, 1e-5) for events in accounts)
    assert twice.epsilon() > 1.2 * plan.epsilon()
    searched = PrivacyPlan.of(_study({"max_sites_per_patient": 2}, rounds=0), "patient")
    assert 8.0 * 0.99 <= searched.epsilon() <= 8.0
    assert searched.one_shot_noise_multiplier == searched.evaluation_noise_multiplier
    assert searched.evaluation_noise_multiplier > 1.2 * plan.evaluation_noise_multiplier


def test_without_privacy_every_event_is_infinite() -> None:
    plan = PrivacyPlan.of(_study({"mode": "off", "noise_multiplier": 5.0}), "patient")
    assert not plan.private
    assert all(plan.event(phase).infinite for phase in Phase)
    assert plan.epsilon() == math.inf


def test_an_epsilon_that_the_one_shot_query_spends_alone_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.epsilon = 8\.0: expected a larger value"):
        PrivacyPlan.of(_study({"one_shot_noise_multiplier": 0.3}), "patient")


@pytest.mark.parametrize(
    ("privacy", "evaluation", "told"),
    [
        (
            {"epsilon": 0.001},
            {"attack": True},
            r"privacy\.epsilon = 0\.001: .* 0\.0002, a share of 0\.2",
        ),
        ({}, {"epsilon": 1e-3}, r"evaluation\.epsilon = 0\.001: .* 0\.0004, a share of 0\.4"),
    ],
)
def test_an_epsilon_of_which_a_share_is_too_small_is_told_as_it_was_given(
    privacy: dict[str, Any], evaluation: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        PrivacyPlan.of(_study(privacy, evaluation=evaluation), "patient")


def test_the_digest_changes_with_every_field(plan: PrivacyPlan) -> None:
    digests = {plan.digest()}
    for item in fields(plan):
        value = getattr(plan, item.name)
        other = not value if isinstance(value, bool) else "other" if isinstance(value, str) else value + 1
        change: dict[str, Any] = {item.name: other}
        digests.add(replace(plan, **change).digest())
    assert len(digests) == len(fields(plan)) + 1


def test_the_digest_is_the_same_in_every_process(plan: PrivacyPlan) -> None:
    fixed = PrivacyPlan(True, "patient", "add/remove", 1e-5, 1.0, 0.1, 50.0, 4, 1, 2, 10, 1.0, 2.0, 3.0)
    assert fixed.digest() == "2b43792ff8c77cdd56d22dbc8a3c26598a8167b5f6fc17b1b7c498cc6ed8243d"


def test_the_optimiser_carries_out_what_the_plan_accounts_for(plan: PrivacyPlan) -> None:
    network, random = nn.Linear(2, 1), SeededRandom(0)
    optimizer = plan.optimizer(network, lambda parameters: optim.SGD(parameters, 0.1), random)
    assert optimizer.clip_norm == plan.clip_norm
    assert optimizer.noise_multiplier == plan.event(Phase.TRAIN).noise_multiplier
    assert optimizer.nominal_batch == plan.nominal_batch
    assert optimizer.random is random
    assert optimizer.network is network
    assert [id(p) for g in optimizer.rule.param_groups for p in g["params"]] == [
        id(p) for p in network.parameters()
    ]


def test_only_a_plan_makes_a_private_optimiser_and_opacus_hooks_serve_benchmarks_alone() -> None:
    packages = [REPOSITORY / name for name in ("medgan_core", "client", "server", "simulations")]
    sources = [path for package in packages for path in package.rglob("*.py")]
    made = re.compile(r"(?<!class )\bPrivateOptimizer\(")
    makers = {p.name for p in sources if made.search(p.read_text(encoding="utf-8"))}
    opacus = {p.name for p in sources if "GradSampleModule" in p.read_text(encoding="utf-8")}
    keepers = {p.name for p in sources if "BookKeeper(" in p.read_text(encoding="utf-8")}
    assert makers == {"plan.py"}
    assert opacus == {"layers.py", "hooks.py"}
    assert {p.name for p in sources if "Hooked(" in p.read_text(encoding="utf-8")} == {"steps.py"}
    assert keepers == {"engine.py"}


def test_several_networks_are_one_mechanism_with_a_rule_each(plan: PrivacyPlan) -> None:
    networks = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.Linear(3, 1)})
    optimizer = plan.optimizer(networks, {"b": optim.Adam, "a": optim.SGD}, SeededRandom(0))
    assert [type(rule) for rule in optimizer.rules] == [optim.SGD, optim.Adam]
    alike = plan.optimizer(networks, optim.SGD, SeededRandom(0), physical_batch=3, precision="auto")
    owned = [[id(p) for group in rule.param_groups for p in group["params"]] for rule in alike.rules]
    assert owned == [[id(p) for p in one.parameters()] for one in networks.values()]


def test_without_privacy_the_optimiser_neither_clips_nor_draws_noise() -> None:
    plan = PrivacyPlan.of(_study({"mode": "off"}), "patient")
    network = nn.Linear(2, 1)
    assert plan.optimizer(network, lambda p: optim.SGD(p, 0.1), SeededRandom(0)).clip_norm is None
