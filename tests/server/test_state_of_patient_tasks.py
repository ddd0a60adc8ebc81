"""The course of a run whose fakes are made of patients: no query begins it, its sites judge the generator."""

import numpy as np
import pytest

from client.egress import allowed
from medgan_core.errors import ConfigError, RefusedError
from medgan_core.messages import Phase, Request, Update, metrics_of
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.release.spending import check_receipts
from server.planning import decided
from server.rounds import accept
from server.state import (
    FederationState,
    expected_groups,
    initial_state,
    next_request,
    phase_of,
    server_step,
)
from tests.client import patient_tasks as tiny
from tests.server import making

STUDY = tiny.study("segmentation", rounds=2, sites={"count": 3}, privacy={"mode": "off"})
TASK = tiny.task_of(STUDY)
PLAN = PrivacyPlan.of(STUDY, "patient")


def start() -> FederationState:
    return initial_state(STUDY, TASK, "run-1", making.SITES)


def asked(state: FederationState) -> Request:
    request = next_request(STUDY, PLAN, state)
    assert request is not None
    return request


def answer(state: FederationState, site: str, seed: int) -> Update:
    random, request = np.random.default_rng(seed), asked(state)
    groups = {
        group: {name: 0.1 * random.normal(size=a.shape).astype(a.dtype) for name, a in arrays.items()}
        for group, arrays in expected_groups(STUDY, TASK, state).items()
    }
    metrics = dict.fromkeys(metrics_of(request.phase, free_fakes=False), 2.0)
    of = making.Federation(STUDY, TASK, PLAN, state)  # type: ignore[arg-type]
    receipt = making.receipt(of, request, site)
    return making.sealed(Update(site, request.round, request.phase, groups, metrics, receipt))


def after(state: FederationState) -> FederationState:
    answers = [answer(state, site, seed) for seed, site in enumerate(making.SITES)]
    updates, refusals = accept(STUDY, TASK, PLAN, state, asked(state), answers)
    assert not refusals
    return server_step(STUDY, TASK, state, updates)


def test_a_run_begins_with_training_and_ends_with_the_attacks_control() -> None:
    state, phases = start(), []
    while next_request(STUDY, PLAN, state) is not None:
        phases.append((state.round, phase_of(STUDY, state.round)))
        state = after(state)
    ends = (Phase.EVALUATE, Phase.ATTACK, Phase.CONTROL)
    assert phases == [(1, Phase.TRAIN), (2, Phase.TRAIN), *zip((3, 4, 5), ends, strict=True)]
    assert len(phases) == STUDY.round_count
    check_receipts(state.receipts, PLAN, STUDY.quorum)
    with pytest.raises(RefusedError, match="round 1 has receipts of 2 sites"):
        check_receipts(state.receipts[1:], PLAN, STUDY.quorum)


def test_networks_travel_in_training_and_the_released_generator_alone_to_be_judged() -> None:
    state = start()
    assert asked(state).groups.keys() == {"generator", "discriminator"}
    judged = after(after(state))
    assert asked(judged).groups.keys() == {"release"}
    done = after(judged)
    assert done.history[-1].keys() >= {"dice", "iou", "hausdorff"}
    average = judged.groups["average"]
    assert all(np.array_equal(done.groups["release"][name], array) for name, array in average.items())


def test_what_may_leave_a_site_is_what_its_coordinator_expects() -> None:
    state = start()
    for phase in (Phase.TRAIN, Phase.TRAIN, Phase.EVALUATE):
        shapes = {
            group: {name: (array.shape, array.dtype) for name, array in arrays.items()}
            for group, arrays in expected_groups(STUDY, TASK, state).items()
        }
        study = STUDY.model_copy(update={"data": STUDY.data.model_copy(update={"channels": 1})})
        assert phase_of(STUDY, state.round) is phase
        if phase is Phase.EVALUATE:
            assert shapes == allowed(study, PLAN, phase)
        state = after(state)


def test_figures_of_fakes_do_not_leave_where_fakes_are_patients() -> None:
    state = start()
    answers = [answer(state, site, seed) for seed, site in enumerate(making.SITES)]
    told = making.sealed(
        Update(
            answers[0].site,
            1,
            Phase.TRAIN,
            answers[0].groups,
            {**answers[0].metrics, "generator_loss": 1.0},
            answers[0].receipt,
        )
    )
    _, refusals = accept(STUDY, TASK, PLAN, state, asked(state), [told, *answers[1:]])
    assert "generator_loss" in refusals[0].reason


def test_all_of_epsilon_is_for_the_steps() -> None:
    private = tiny.study("restoration", rounds=2)
    plan = PrivacyPlan.of(private, "patient")
    assert plan.phase(0) is None
    assert [event.steps for event in plan.events("training")] == [2, 2, 1]  # the last is the attacks' query
    assert plan.one_shot_noise_multiplier == 0
    assert plan.epsilon() == pytest.approx(private.privacy.epsilon, rel=0.01)
    assert plan.epsilon() <= private.privacy.epsilon


def test_there_is_no_query_to_choose_or_to_fall_back_on() -> None:
    assert decided(tiny.study("restoration", strategy="auto")).strategy == "refine"
    for wrong in ({"strategy": "one_shot"}, {"rounds": 0}, {"share": "gradient"}):
        with pytest.raises(ConfigError, match="restoration"):
            tiny.study("restoration", **wrong)
