"""Messages of a secure sum: what their digests bind, and that they come back from the wire as they were."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medgan_core.errors import UpdateError
from medgan_core.messages import RELAYED, Array, Event, Phase, Receipt, Request, Stage, StageReply, SumStage
from medgan_core.wire import answer_from_records, answer_to_records, asked_to_records
from tests.medgan_core.asking import request_from_records

STAGE = SumStage(Stage.CONFIRM, 1, "nonce", "query", {"a": "00", "b": "11"}, ("a", "b"))
MESSAGES: dict[str, Array] = {'["a", "b"]': np.arange(5, dtype=np.uint8), "b": np.zeros(0, np.uint8)}
CLASSIFIER: dict[str, dict[str, Array]] = {"classifier": {"w": np.ones(3, np.float32)}}
REQUEST = Request("run", 3, Phase.EVALUATE, "plan", {RELAYED: MESSAGES} | CLASSIFIER, STAGE)


def test_the_digest_of_a_request_binds_stage_session_cohort_and_all_that_is_relayed() -> None:
    changes: list[dict[str, Any]] = [
        {"stage": Stage.REVEAL},
        {"attempt": 2},
        {"nonce": "another"},
        {"query": "another"},
        {"cohort": {"a": "00"}},
        {"cohort": {"a": "00", "b": "12"}},
        {"survivors": ("a",)},
    ]
    others = [replace(REQUEST, secure=replace(STAGE, **change)) for change in changes]
    spoiled = MESSAGES | {'["a", "b"]': np.arange(1, 6, dtype=np.uint8)}
    others += [
        replace(REQUEST, secure=None),
        replace(REQUEST, groups={RELAYED: spoiled} | CLASSIFIER),
        replace(REQUEST, groups={RELAYED: MESSAGES}),
    ]
    assert len({REQUEST.digest(), *(other.digest() for other in others)}) == 1 + len(others)


def test_the_query_is_what_is_asked_whoever_takes_part() -> None:
    plain = Request("run", 3, Phase.EVALUATE, "plan", CLASSIFIER)
    assert REQUEST.query() == plain.query() == plain.digest()
    assert replace(REQUEST, secure=replace(STAGE, cohort={}, nonce="m")).query() == plain.digest()
    assert replace(REQUEST, groups={RELAYED: MESSAGES}).query() != plain.digest()
    assert replace(REQUEST, plan="another").query() != plain.digest()


def test_the_order_of_a_cohort_does_not_matter() -> None:
    turned = replace(STAGE, cohort={"b": "11", "a": "00"})
    assert replace(REQUEST, secure=turned).digest() == REQUEST.digest()


@pytest.mark.parametrize("stage", Stage)
def test_a_request_of_a_stage_comes_back_as_it_was(stage: Stage) -> None:
    request = replace(REQUEST, secure=replace(STAGE, stage=stage))
    back = request_from_records(asked_to_records(request))
    assert back.secure == request.secure
    assert (back.digest(), back.query()) == (request.digest(), request.query())


def test_the_reply_of_a_stage_comes_back_as_it_was() -> None:
    for messages in (MESSAGES, {}):
        reply = StageReply("site-1", 3, Stage.SHARE, "nonce", messages)
        back = answer_from_records(answer_to_records(reply))
        assert isinstance(back, StageReply)
        assert (back.site, back.round, back.stage, back.nonce) == ("site-1", 3, Stage.SHARE, "nonce")
        assert {name: array.tolist() for name, array in back.messages.items()} == {
            name: array.tolist() for name, array in messages.items()
        }


@pytest.mark.parametrize("wrong", [{"stage": "steal"}, {"cohort": None}, {"attempt": "x"}, {"survivors": 3}])
def test_a_stage_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    records = asked_to_records(REQUEST)
    body = json.loads(str(records.config_records["medgan"]["json"]))
    body["secure"] |= wrong
    records.config_records["medgan"]["json"] = json.dumps(body)
    with pytest.raises(UpdateError, match="none of ours"):
        request_from_records(records)


SUM = Event(2.0, 1.0, 1, shares=4, dimension=8, share_deviation=3.0)


@pytest.mark.parametrize("spent", [2.5, float("inf")])
def test_a_receipt_of_a_sum_survives_json(spent: float) -> None:
    receipt = Receipt(
        *("site", "l", "r", 0, Phase.ONE_SHOT, "d", "training"),
        *(SUM, spent, 1e-5, 7, "h"),
        local_event=SUM.local,
        local_spent=spent,
        query="q",
        repeat=1,
    )
    assert Receipt.from_json(json.loads(json.dumps(receipt.to_json(), allow_nan=False))) == receipt


def test_a_plain_event_is_written_as_it_always_was() -> None:
    assert Event(1.0, 0.5, 3).to_json() == {"noise_multiplier": 1.0, "sampling_rate": 0.5, "steps": 3}
    assert Event(**SUM.to_json()) == SUM
    assert (SUM.local.noise_multiplier, SUM.local.shares) == (1.0, 1)
