"""The ClientApp of the bundle: what goes in comes out at the trainer, and it knows nothing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.channel import serve
from client.node_app import make_node_app
from medgan_core.envelope import Envelope
from medgan_core.errors import RefusedError
from medgan_core.wire import envelope_from_records, envelope_to_records

QUESTION = Envelope({"run": "r", "any": ["thing", 1]}, {"g": {"w": np.ones(3, ">f4"), "n": np.array(7)}})


@pytest.fixture(autouse=True)
def _running_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower 1.41 lets only a running task make messages."""
    for name in ("_run_id", "_task_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def asked(
    place: Path, kind: str = "train", content: RecordDict | None = None, **facts: str | float
) -> Envelope:
    message = Message(content=content or envelope_to_records(QUESTION), dst_node_id=5, message_type=kind)
    context = Context(1, 5, {"socket": str(place), "site": "north"} | facts, RecordDict(), {})
    return envelope_from_records(make_node_app(patience=0)(message, context).content)


@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
def test_messages_of_every_kind_pass_through_undecoded(tmp_path: Path, kind: str) -> None:
    came: list[Envelope] = []

    def handler(envelope: Envelope) -> Envelope:
        came.append(envelope)
        return Envelope({"answer": kind}, envelope.groups)

    with serve(handler, tmp_path / "s", "north"):
        answer = asked(tmp_path / "s", kind)
    assert came[0].head == QUESTION.head
    assert answer.head == {"answer": kind}
    assert answer.groups["g"]["w"].dtype == np.dtype(">f4")
    assert answer.groups["g"]["n"].shape == ()


def test_without_a_trainer_it_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = asked(tmp_path / "s")
    assert answer.head == {"site": "north", "refusal": "the trainer is not running"}
    assert capsys.readouterr().err == "no answer to the coordinator: the trainer is not running\n"


def test_a_refusal_of_the_trainer_passes(tmp_path: Path) -> None:
    def refuse(envelope: Envelope) -> Envelope:
        raise RefusedError("secret")

    with serve(refuse, tmp_path / "s", "north"):
        assert asked(tmp_path / "s").head == {"site": "north", "refusal": "not approved"}


def test_the_node_s_deadline_holds(tmp_path: Path) -> None:
    def slow(envelope: Envelope) -> Envelope:
        import time

        time.sleep(0.6)
        return envelope

    with serve(slow, tmp_path / "s", "north"):
        answer = asked(tmp_path / "s", deadline=0.2)
    assert answer.head["refusal"] == "the trainer gave no answer within 0.2 s: it goes on, ask again"


def test_a_message_of_another_app_does_not_reach_the_trainer(tmp_path: Path) -> None:
    def never(envelope: Envelope) -> Envelope:
        raise AssertionError("reached")

    with serve(never, tmp_path / "s", "north"):
        answer = asked(tmp_path / "s", content=RecordDict({"c": ConfigRecord({"lr": 1.0})}))
    assert answer.head["refusal"] == "failed: UpdateError"


def test_it_loads_neither_torch_nor_anything_of_the_trainer() -> None:
    code = "import sys, client.node_app; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    private = {"torch", "opacus", "monai", "client.site", "client.round", "medgan_core.privacy"}
    assert not private & set(out.stdout.split())
