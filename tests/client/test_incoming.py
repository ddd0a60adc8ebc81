"""What a request must bring: all that a coordinator sends passes, and nothing else does."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client.incoming import Incoming
from medgan_core.errors import PolicyError
from medgan_core.messages import DISCRIMINATORS, PROPORTIONS, RELAYED, Phase, Request
from medgan_core.privacy.plan import PrivacyPlan
from server.state import initial_state, next_request, server_step
from tests.client import patient_tasks as tiny
from tests.server import making
from tests.server.making import Federation, federation

Groups = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def of() -> Federation:
    return federation(evaluation__attack=True, evaluation__gate=True)


@pytest.fixture(scope="module")
def requests(of: Federation) -> dict[Phase, Request]:
    """One of each phase, as the coordinator makes them."""
    found, state = {}, of.state
    while (request := next_request(of.study, of.plan, state)) is not None:
        found[request.phase] = request
        state = server_step(of.study, of.task, state, of.answers(state))
    return found


@pytest.fixture
def incoming(of: Federation) -> Incoming:
    return Incoming(of.study, of.task)


@pytest.mark.parametrize("phase", Phase)
def test_what_a_coordinator_sends_in_any_phase_passes(
    requests: dict[Phase, Request], incoming: Incoming, phase: Phase
) -> None:
    incoming.check(requests[phase])


@pytest.mark.parametrize("share", ["generator", "both"])
def test_so_does_what_is_sent_where_the_discriminator_stays_or_travels(share: str) -> None:
    made = federation(share=share)
    request = made.request(made.after(1))
    assert ("discriminator" in request.groups) == (share == "both")
    Incoming(made.study, made.task).check(request)


def test_so_does_what_is_sent_for_a_task_of_patients() -> None:
    study = tiny.study("segmentation", sites={"count": 3}, privacy={"mode": "off"})
    task = tiny.task_of(study)
    first = initial_state(study, task, "run-1", making.SITES)
    last = replace(first, round=2, groups={**first.groups, "release": first.groups["average"]})
    for state, groups in ((first, {"generator", "discriminator"}), (last, {"release"})):
        request = next_request(study, PrivacyPlan.of(study, "patient"), state)
        assert request is not None
        assert set(request.groups) == groups
        Incoming(study, task).check(request)


def without(group: str, name: str = "") -> Callable[[Groups], None]:
    def change(groups: Groups) -> None:
        del (groups[group] if name else groups)[name or group]

    return change


def having(group: str, name: str, change: Callable[[Any], Any]) -> Callable[[Groups], None]:
    return lambda groups: groups[group].update({name: change(groups[group].get(name))})


def with_nan(array: Any) -> Any:
    changed = np.array(array)
    changed.flat[-1] = np.nan
    return changed


BIAS = "score.bias"
SHARES = f"{PROPORTIONS}site-1"
WRONG: dict[str, tuple[Phase, Callable[[Groups], None], str]] = {
    "no statistics": (Phase.TRAIN, without("statistics"), "groups: missing: statistics"),
    "no discriminator": (Phase.TRAIN, without("discriminator"), "groups: missing: discriminator"),
    "no weight": (Phase.TRAIN, without("generator", "last.bias"), r"generator: missing: last\.bias"),
    "a group more": (Phase.ONE_SHOT, lambda g: g.update(x={}), "groups: not expected: x"),
    "a message of a sum": (Phase.TRAIN, lambda g: g.update({RELAYED: {}}), "not expected: relayed"),
    "a weight more": (Phase.TRAIN, having("generator", "x", lambda _: np.ones(1)), "not expected: x"),
    "a shape": (
        Phase.TRAIN,
        having("generator", "last.bias", lambda a: a[None]),
        r"generator last\.bias: float32 \(1, 1\), expected float32 \(1,\)",
    ),
    "a dtype": (
        Phase.TRAIN,
        having("discriminator", BIAS, lambda a: a.astype(float)),
        "float64 .* expected float32",
    ),
    "NaN in a weight": (Phase.TRAIN, having("generator", "last.bias", with_nan), "holds NaN"),
    "no embedding": (Phase.TRAIN, without("statistics", "embedding"), "missing: embedding"),
    "NaN in the embedding": (Phase.TRAIN, having("statistics", "embedding", with_nan), "holds NaN"),
    "another statistic": (Phase.TRAIN, having("statistics", "x", lambda _: np.ones(2)), "not expected: x"),
    "shares of more classes": (Phase.TRAIN, having("statistics", SHARES, lambda _: np.ones(3)), r"\(2,\)"),
    "negative shares": (
        Phase.TRAIN,
        having("statistics", SHARES, lambda _: np.array([2.0, -1.0])),
        "no shares of classes",
    ),
    "no shares": (Phase.TRAIN, having("statistics", SHARES, np.zeros_like), "no shares of classes"),
    "one classifier of two": (Phase.GATE, without("classifier_refined"), "missing: classifier_refined"),
    "NaN in a classifier": (Phase.EVALUATE, having("classifier", "0.bias", with_nan), "holds NaN"),
    "no release": (Phase.CONTROL, without("release"), "missing: release"),
    "NaN in the release": (Phase.ATTACK, having("release", "last.bias", with_nan), "holds NaN"),
    "half a discriminator": (
        Phase.ATTACK,
        without(DISCRIMINATORS, f"2.{BIAS}"),
        f"discriminators of round 2: missing: {BIAS}",
    ),
    "a discriminator of no round": (
        Phase.ATTACK,
        having(DISCRIMINATORS, BIAS, lambda _: np.ones(1, np.float32)),
        "expected the number of a round",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_round_cannot_work_with_is_refused_by_name_and_the_coordinator_may_know(
    requests: dict[Phase, Request], incoming: Incoming, what: str
) -> None:
    phase, change, why = WRONG[what]
    groups = {name: dict(arrays) for name, arrays in requests[phase].groups.items()}
    change(groups)
    with pytest.raises(PolicyError, match=f"^round {requests[phase].round}: the request's .*{why}") as caught:
        incoming.check(replace(requests[phase], groups=groups))
    assert caught.value.told == str(caught.value)
