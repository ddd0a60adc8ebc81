"""What leaves is exactly what a coordinator expects, and anything else stays."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client import egress
from client.site_file import PolicySection
from medgan_core.errors import RefusedError
from medgan_core.messages import Phase, Request, Stage, StageReply, SumStage, Update
from server.state import expected_groups
from tests.client.sites import coordinator
from tests.server.making import answer

METRICS = PolicySection().metrics
SUMS = {"privacy__secure_sum": True, "privacy__drop": 0}


def described(groups: Any) -> dict[str, dict[str, Any]]:
    return {
        group: {name: (array.shape, array.dtype) for name, array in arrays.items()}
        for group, arrays in groups.items()
    }


@pytest.mark.parametrize("share", ["both", "generator"])
@pytest.mark.parametrize("number", range(5))
def test_allowed_is_what_the_coordinator_expects(share: str, number: int) -> None:
    of = coordinator(share=share)
    state = of.after(number)
    request = of.request(state)
    allow = egress.allowed(of.study, of.plan, request.phase)
    assert allow == described(expected_groups(of.study, of.task, state))
    update = answer(of, state, "site-1")
    egress.check_update(update, request, allow, METRICS)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("share", ["both", "gradient"])
def test_under_secure_sums_masked_words_alone_leave(phase: Phase, share: str) -> None:
    changes = {"privacy__noise_multiplier": 30.0} if share == "gradient" else {}
    of = coordinator(**SUMS | changes, share=share)
    allow = egress.allowed(of.study, of.plan, phase)
    if phase is Phase.TRAIN and share == "both":
        assert set(allow) == {"generator", "discriminator"}
        return
    (shape, dtype) = allow["masked"]["sum"]
    size = {
        Phase.ONE_SHOT: of.plan.one_shot_size,
        Phase.GATE: 64,
        Phase.EVALUATE: of.plan.evaluation_size,
        Phase.ATTACK: of.plan.attack_size,
        Phase.CONTROL: of.plan.attack_size,
        Phase.TRAIN: of.plan.gradient_size,
    }[phase]
    assert (shape, dtype) == ((size,), np.dtype(np.uint64))


def spoiled(update: Update, group: str, name: str, array: Any) -> Update:
    groups = {g: dict(arrays) for g, arrays in update.groups.items()}
    groups.setdefault(group, {})[name] = array
    return replace(update, groups=groups)


@pytest.mark.parametrize(
    ("group", "name", "change"),
    [
        ("statistics", "count", lambda a: np.ones(1)),
        ("patients", "names", lambda a: np.ones(1)),
        ("statistics", "embedding", lambda a: a[:, :-1]),
        ("statistics", "embedding", lambda a: a.astype(np.float32)),
        ("statistics", "embedding", lambda a: a * np.nan),
        ("statistics", "embedding", lambda a: a * np.inf),
    ],
)
def test_another_name_shape_type_or_value_stays(group: str, name: str, change: Any) -> None:
    of = coordinator()
    update, request = answer(of, of.state, "site-1"), of.request()
    allow = egress.allowed(of.study, of.plan, request.phase)
    array = change(update.groups["statistics"]["embedding"])
    with pytest.raises(RefusedError, match="not allowed to leave"):
        egress.check_update(spoiled(update, group, name, array), request, allow, METRICS)


@pytest.mark.parametrize(
    "metrics",
    [{"patients": 60.0}, {"generator_loss": float("nan")}, {"generator_loss": "Anna"}],
)
def test_another_metric_or_one_that_is_no_number_stays(metrics: Any) -> None:
    of = coordinator()
    state = of.after(1)
    update, request = answer(of, state, "site-1"), of.request(state)
    allow = egress.allowed(of.study, of.plan, request.phase)
    egress.check_update(update, request, allow, METRICS)
    with pytest.raises(RefusedError):
        egress.check_update(replace(update, metrics=metrics), request, allow, METRICS)
    with pytest.raises(RefusedError, match="generator_loss"):
        egress.check_update(
            update, request, allow, ("discriminator_steps", "discriminator_accuracy_on_fakes")
        )


def test_an_answer_to_another_round_stays() -> None:
    of = coordinator()
    update, request = answer(of, of.state, "site-1"), of.request()
    with pytest.raises(RefusedError, match="round 0"):
        egress.check_update(update, replace(request, round=1, phase=Phase.TRAIN), {}, METRICS)


# Messages between the parties of a secure sum


def staged(stage: Stage) -> tuple[Request, StageReply]:
    asked = SumStage(stage, 0, "nonce", "query", {"site-1": "", "site-2": "", "site-3": ""})
    request = Request("run-1", 0, Phase.ONE_SHOT, "plan", {}, asked)
    return request, StageReply("site-1", 0, stage, "nonce", {})


SITES = ("site-1", "site-2", "site-3")
BYTES = np.zeros(64, np.uint8)


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        (Stage.ADVERTISE, ["keys"]),
        (Stage.SHARE, ["site-2", "site-3"]),
        (Stage.CONFIRM, ["signature"]),
        (Stage.REVEAL, ["seed site-1", "seed site-2", "key site-3"]),
    ],
)
def test_messages_of_a_stage_pass_and_no_others(stage: Stage, names: list[str]) -> None:
    request, reply = staged(stage)
    egress.check_reply(replace(reply, messages=dict.fromkeys(names, BYTES)), request, SITES)
    for name in ("site-1", "images", "seed site-9"):
        with pytest.raises(RefusedError):
            egress.check_reply(
                replace(reply, messages={name: BYTES} if name not in names else {"x": BYTES}), request, SITES
            )
    for array in (BYTES.astype(np.float64), np.zeros((8, 8), np.uint8), np.zeros(4096, np.uint8)):
        with pytest.raises(RefusedError):
            egress.check_reply(replace(reply, messages={names[0]: array}), request, SITES)
    with pytest.raises(RefusedError, match="another stage or session"):
        egress.check_reply(replace(reply, nonce="other"), request, SITES)
