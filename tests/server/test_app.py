"""Flower's side of the coordinator, with Flower's own messages and a grid that answers at once."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from medgan_core.errors import QuorumError, RoundError
from medgan_core.messages import Request, Update
from medgan_core.wire import answer_to_records, refusal_to_records
from server.app import make_server_app
from server.rounds import Answer, Exchange, Refusal
from tests.medgan_core.asking import request_from_records
from tests.server import making

Reply = Callable[[Message, Request], Message | None]


@pytest.fixture(autouse=True)
def _running_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower 1.41 lets only a running task make messages."""
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


class Grid:
    """Nodes that come one by one and answer by `reply`; None is no answer."""

    def __init__(self, reply: Reply, come: Iterable[list[int]] = ([12, 11],)) -> None:
        self.reply, self.come = reply, list(come)
        self.asked: list[tuple[int, str]] = []
        self.answers: dict[str, Message] = {}
        self.pulled: list[int] = []

    def get_node_ids(self) -> list[int]:
        return self.come.pop(0) if len(self.come) > 1 else self.come[0]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        for number, message in enumerate(messages):
            self.asked.append((message.metadata.dst_node_id, message.metadata.message_type))
            message.metadata._message_id = str(number)  # as Flower's own grids do
            answer = self.reply(message, request_from_records(message.content))
            self.answers |= {str(number): answer} if answer is not None else {}
            yield str(number)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        asked = list(message_ids)
        self.pulled.append(len(asked))
        come = sorted(set(asked) & set(self.answers))
        return [self.answers.pop(name) for name in come]


def heard(reply: Reply, stopped: bool = False, **grid: Any) -> tuple[list[Answer], Grid]:
    """What the course gets for one request."""
    federation, got = making.federation(), list[Answer]()

    def course(exchange: Exchange) -> None:
        got.extend(exchange(federation.request()))

    fake = Grid(reply, **grid)
    app = make_server_app(course, 2, 0.3, lambda: stopped)
    app(fake, Context(1, 0, {}, RecordDict(), {}))
    return got, fake


def update(message: Message, request: Request) -> Message:
    federation = making.federation()
    answer = making.answer(federation, federation.state, f"site-{message.metadata.dst_node_id - 10}")
    return Message(answer_to_records(answer), reply_to=message)


def test_every_node_is_asked_and_its_update_is_heard() -> None:
    got, grid = heard(update)
    assert [answer.site for answer in got] == ["site-1", "site-2"]
    assert all(isinstance(answer, Update) for answer in got)
    assert grid.asked == [(11, "query"), (12, "query")]


def test_answers_are_fetched_one_by_one_so_that_one_is_in_memory() -> None:
    got, grid = heard(update)
    assert len(got) == 2
    assert set(grid.pulled) == {1}


def test_it_waits_until_all_nodes_are_there() -> None:
    got, _ = heard(update, come=([], [11], [11, 12]))
    assert len(got) == 2


def test_too_few_nodes_end_the_wait_with_what_to_do() -> None:
    with pytest.raises(QuorumError, match=r"1 of 2 nodes came within 0\.3 s: start the others and resume"):
        heard(update, come=([11],))


def test_a_stopped_run_waits_no_longer() -> None:
    with pytest.raises(RoundError, match="round 0 was stopped: resume the run"):
        heard(lambda message, request: None, stopped=True)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (lambda message, request: Message(Error(1, "crashed"), reply_to=message), "node 11 failed: crashed"),
        (
            lambda message, request: Message(refusal_to_records("north", "not approved"), reply_to=message),
            "not approved",
        ),
        (
            lambda message, request: Message(RecordDict({"c": ConfigRecord({})}), reply_to=message),
            "node 11: a message that is none of ours",
        ),
        (lambda message, request: None, "node 11 gave no answer within 0.3 s"),
    ],
)
def test_one_node_s_failure_is_a_refusal_and_the_other_s_update_is_heard(reply: Reply, reason: str) -> None:
    def mixed(message: Message, request: Request) -> Message | None:
        return (reply if message.metadata.dst_node_id == 11 else update)(message, request)

    got, _ = heard(mixed)
    assert [answer.site for answer in got if isinstance(answer, Update)] == ["site-2"]
    [refusal] = [answer for answer in got if isinstance(answer, Refusal)]
    assert refusal.reason.startswith(reason)
