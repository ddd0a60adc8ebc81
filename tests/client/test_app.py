"""The shim at a site hands messages on, and says no more than a coordinator may know."""

from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.app import Answer, make_client_app
from client.reasons import reason_for_coordinator
from medgan_core.envelope import Asked
from medgan_core.errors import BudgetError, DataError, LedgerError, MedGANError, ReceiptError
from medgan_core.messages import Event, Phase, Receipt, Request, Update
from medgan_core.wire import answer_from_records, asked_to_records, message_type

SECRET = "patient Anna has spent 19.7 of 20"


@pytest.fixture(autouse=True)
def _running_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower 1.41 lets only a running task make messages."""
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def receipt(request: Request) -> Receipt:
    return Receipt(
        "north",
        "l",
        request.run,
        request.round,
        request.phase,
        "d",
        "training",
        Event(1, 1, 1),
        1,
        1e-5,
        1,
        "h",
    )


def echo(context: Context, request: Asked) -> Update:
    assert isinstance(request, Request)
    return Update("north", request.round, request.phase, request.groups, {}, receipt(request))


def asked(answer: Answer, phase: Phase = Phase.TRAIN, content: RecordDict | None = None) -> Message:
    groups = {"generator": {"w": np.ones(2, np.float32)}}
    request = Request("run", 1, phase, "plan", groups)
    message = Message(
        content=content or asked_to_records(request), dst_node_id=5, message_type=message_type(request)
    )
    context = Context(1, 5, {}, RecordDict(), {})
    return make_client_app(answer)(message, context)


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_reaches_the_site_and_its_update_goes_back(phase: Phase) -> None:
    update = answer_from_records(asked(echo, phase).content)
    assert isinstance(update, Update)
    assert (update.site, update.round, update.phase) == ("north", 1, phase)
    assert update.groups["generator"]["w"].tolist() == [1, 1]


@pytest.mark.parametrize("error", [BudgetError(SECRET), ReceiptError(SECRET), DataError(SECRET)])
def test_a_refusal_tells_nothing_of_the_data(error: MedGANError) -> None:
    def refuse(context: Context, request: Asked) -> Update:
        raise error

    reply = asked(refuse)
    assert answer_from_records(reply.content) == ("node 5", reason_for_coordinator(error))
    assert SECRET not in str(reply.content)


def test_policy_is_not_approved_and_a_failure_names_its_kind_alone() -> None:
    assert reason_for_coordinator(BudgetError(SECRET)) == "not approved"
    assert reason_for_coordinator(DataError(SECRET)) == "not approved"
    assert reason_for_coordinator(LedgerError(SECRET)) == "failed: LedgerError"


def test_a_message_of_another_app_does_not_reach_the_site() -> None:
    def never(context: Context, request: Asked) -> Update:
        raise AssertionError("reached")

    reply = asked(never, content=RecordDict({"c": ConfigRecord({"lr": 1.0})}))
    assert answer_from_records(reply.content) == ("node 5", "failed: UpdateError")


def test_a_bug_is_left_to_flower() -> None:
    def bug(context: Context, request: Asked) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asked(bug)
