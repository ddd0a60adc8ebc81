"""The plain engine: sites in their order, and one site's error is its refusal."""

from types import SimpleNamespace
from typing import Any

import pytest

from medgan_core.errors import DataError
from medgan_core.messages import Update
from server.rounds import Refusal
from simulations.loop import loop_engine
from tests.server import making


class Worker:
    def __init__(self, name: str, answer: Any) -> None:
        self.site, self.result = SimpleNamespace(name=name), answer

    def answer(self, request: Any) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def heard(*workers: Any) -> list[Update | Refusal]:
    got = list[Update | Refusal]()
    federation = making.federation()

    def course(exchange: Any) -> Any:
        got.extend(exchange(federation.request()))
        return federation.state

    assert loop_engine(workers, course) is federation.state
    return got


def test_sites_answer_in_their_order_and_an_error_is_a_refusal_by_name() -> None:
    federation = making.federation()
    update = making.answer(federation, federation.state, "site-2")
    got = heard(Worker("site-1", DataError("row 3 is damaged")), Worker("site-2", update))
    assert got == [Refusal("site-1", "site-1: row 3 is damaged"), update]


def test_a_bug_is_no_refusal() -> None:
    with pytest.raises(ZeroDivisionError):
        heard(Worker("site-1", ZeroDivisionError()))
