"""The channel between a node and its trainer: real gRPC on a real socket, in this process."""

import os
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from client.channel import Channel, Handler, Heard, Server, serve
from client.frames import CHUNK_BYTES, chunks_of
from medgan_core.envelope import Envelope
from medgan_core.errors import BudgetError, ConfigError, InputError, LedgerError, TrainerError, UpdateError
from medgan_core.messages import Array

SECRET = "patient Anna has spent 19.7 of 20"
QUESTION = Envelope({"run": "r", "round": 1, "phase": "train"}, {"g": {"w": np.ones(3, np.float32)}})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "socket" / "trainer.sock"


def echo(envelope: Envelope) -> Envelope:
    return Envelope({"echo": envelope.head}, envelope.groups)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_question_gets_its_answer(place: Path) -> None:
    heard: list[Heard] = []
    with serve(echo, place, "north", heard=heard.append):
        answer = Channel(place).ask(QUESTION, 5)
    assert answer.head == {"echo": QUESTION.head}
    assert answer.groups["g"]["w"].tolist() == [1, 1, 1]
    [told] = heard
    assert (told.run, told.kind, told.refused) == ("r", "train", False)
    assert 90 < told.bytes_in < told.bytes_out < 250


def test_many_chunks_pass_both_ways(place: Path) -> None:
    weights = np.arange(3 * CHUNK_BYTES, dtype=np.int32)
    with serve(echo, place, "north"):
        answer = Channel(place).ask(Envelope({}, {"g": {"w": weights}}), 20)
    assert np.array_equal(answer.groups["g"]["w"], weights)


def test_modes_let_in_the_group_alone_and_nothing_is_left(place: Path) -> None:
    with serve(echo, place, "north", group=os.getgid()):
        assert mode(place) == 0o660
        assert mode(place.parent) == 0o750
        assert place.stat().st_gid == place.parent.stat().st_gid == os.getgid()
    assert not place.exists()


@pytest.mark.parametrize(
    ("error", "reason"), [(BudgetError(SECRET), "not approved"), (LedgerError(SECRET), "failed: LedgerError")]
)
def test_an_error_of_ours_is_a_refusal_that_tells_nothing_there_and_why_here(
    place: Path, error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Heard] = []
    with serve(raising(error), place, "north", heard=heard.append):
        answer = Channel(place).ask(QUESTION, 5)
    assert answer.head == {"site": "north", "refusal": reason}
    assert heard[0].refused
    assert f"refused: {SECRET}" in caplog.text


def test_a_bug_is_logged_here_and_nameless_there(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serve(raising(ZeroDivisionError(SECRET)), place, "north"):
        answer = Channel(place).ask(QUESTION, 5)
        assert answer.head == {"site": "north", "refusal": "failed: unexpected error"}
        assert "ZeroDivisionError" in caplog.text
        assert Channel(place).ask(QUESTION, 5).head == answer.head  # it lives on


def raising(error: Exception) -> Handler:
    def handler(envelope: Envelope) -> Envelope:
        raise error

    return handler


def test_without_a_trainer_the_reason_is_one_line(place: Path) -> None:
    with pytest.raises(TrainerError, match=r"^the trainer is not running$"):
        Channel(place).ask(QUESTION, 5)


def test_patience_waits_for_a_trainer_that_is_starting(place: Path) -> None:
    servers: list[Server] = []
    timer = threading.Timer(0.5, lambda: servers.append(serve(echo, place, "north")))
    timer.start()
    assert Channel(place).ask(QUESTION, 10, patience=10).head
    timer.join()
    servers[0].stop()


class Slow:
    """A trainer that works for a while and seals; what is sealed it replays."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.worked: list[str] = []
        self.at_once = self.most_at_once = 0

    def __call__(self, envelope: Envelope) -> Envelope:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        key = str(envelope.head)
        if key not in self.worked:
            time.sleep(self.seconds)
            self.worked.append(key)
        self.at_once -= 1
        return Envelope({"sealed": self.worked.index(key)}, {})


def test_a_deadline_ends_the_question_and_not_the_work(place: Path) -> None:
    slow = Slow(1.0)
    with serve(slow, place, "north"):
        start = time.monotonic()
        with pytest.raises(TrainerError, match=r"no answer within 0\.3 s: it goes on, ask again"):
            Channel(place).ask(QUESTION, 0.3)
        assert time.monotonic() - start < 0.9
        assert Channel(place).ask(QUESTION, 5).head == {"sealed": 0}
    assert (len(slow.worked), slow.most_at_once) == (1, 1)


def test_a_question_that_waited_in_vain_is_not_begun(place: Path) -> None:
    slow = Slow(0.8)
    with serve(slow, place, "north"):
        first = threading.Thread(target=lambda: Channel(place).ask(QUESTION, 5))
        first.start()
        time.sleep(0.2)
        other = Envelope({"run": "r", "round": 2}, {})
        with pytest.raises(TrainerError):
            Channel(place).ask(other, 0.2)
        first.join()
        time.sleep(0.5)
    assert len(slow.worked) == 1


@pytest.mark.parametrize(("runs", "most"), [(["a", "a", "a"], 1), (["a", "b", "c"], 3)])
def test_questions_of_one_run_come_one_after_the_other(place: Path, runs: list[str], most: int) -> None:
    slow = Slow(0.4)
    asked = [Envelope({"run": run, "round": number}, {}) for number, run in enumerate(runs)]
    with serve(slow, place, "north"):
        threads = [threading.Thread(target=Channel(place).ask, args=(e, 10)) for e in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (slow.most_at_once, len(slow.worked)) == (most, 3)


def test_proposals_and_farewells_share_the_turn_of_their_run(place: Path) -> None:
    heard: list[Heard] = []
    with serve(echo, place, "north", heard=heard.append):
        for head in ({"proposal": {"run": "r"}}, {"farewell": {"run": "r"}}, {"proposal": 3}):
            Channel(place).ask(Envelope(dict[str, Any](head), {}), 5)
    assert [(h.run, h.kind) for h in heard] == [("r", "proposal"), ("r", "farewell"), ("", "")]


def test_too_many_calls_are_told_to_come_again(place: Path) -> None:
    slow = Slow(1.5)
    with serve(slow, place, "north"):
        asked = [Envelope({"run": str(number)}, {}) for number in range(4)]
        threads = [threading.Thread(target=Channel(place).ask, args=(e, 10)) for e in asked]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        with pytest.raises(TrainerError, match="busy"):
            Channel(place).ask(QUESTION, 5)
        for thread in threads:
            thread.join()


def test_a_message_over_the_limit_is_refused(place: Path) -> None:
    large = Envelope({}, {"g": {"w": np.zeros(2_000_000, np.uint8)}})
    with serve(echo, place, "north", limit=1_000_000):
        assert Channel(place).ask(large, 5).head["refusal"] == "failed: UpdateError"
    with serve(echo, place, "north"), pytest.raises(UpdateError, match="2000000 bytes"):
        Channel(place, limit=1_000_000).ask(large, 5)


def test_what_cannot_travel_is_not_asked(place: Path) -> None:
    with serve(echo, place, "north"), pytest.raises(UpdateError, match="dtype object"):
        Channel(place).ask(Envelope({}, {"g": {"w": np.array([object()])}}), 5)


def test_a_stranger_s_stream_is_refused(place: Path) -> None:
    with serve(echo, place, "north"), grpc.insecure_channel(f"unix:{place}") as channel:
        replies = list(channel.stream_stream("/medgan.Trainer/Ask")(iter([b"garbage" * 9]), timeout=5))
        assert b"UpdateError" in b"".join(replies)
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            list(channel.stream_stream("/medgan.Trainer/Other")(iter([b""]), timeout=5))


class Counting(Mapping[str, Array]):
    """Tensors that are made when they are asked for, and counted."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.made = 0

    def __getitem__(self, name: str) -> Array:
        self.made += 1
        return np.zeros(CHUNK_BYTES, np.uint8)

    def __iter__(self) -> Iterator[str]:
        return map(str, range(self.number))

    def __len__(self) -> int:
        return self.number


def test_a_slow_reader_holds_the_trainer_back(place: Path) -> None:
    arrays = Counting(64)
    with (
        serve(lambda _: Envelope({}, {"g": arrays}), place, "north"),
        grpc.insecure_channel(f"unix:{place}", options=[("grpc.max_receive_message_length", -1)]) as channel,
    ):
        call = channel.stream_stream("/medgan.Trainer/Ask")(chunks_of(QUESTION), timeout=20)
        next(call)
        time.sleep(1.0)
        assert arrays.made - arrays.number < 32  # each is made once more for the table
        assert sum(1 for _ in call) == 64
    assert arrays.made == 2 * arrays.number


def test_a_second_trainer_is_refused_and_the_first_goes_on(place: Path) -> None:
    with serve(echo, place, "north"):
        with pytest.raises(InputError, match="another trainer of this site is running"):
            serve(echo, place, "north")
        assert Channel(place).ask(QUESTION, 5).head
    with serve(echo, place, "north"):
        assert Channel(place).ask(QUESTION, 5).head


def test_a_file_in_the_way_is_left_alone(place: Path) -> None:
    place.parent.mkdir()
    place.write_text("a person's own")
    with pytest.raises(InputError, match=r"trainer\.sock in the socket's folder is no socket"):
        serve(echo, place, "north")
    assert place.read_text() == "a person's own"


def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 107 bytes: move the site's folder"):
        serve(echo, tmp_path / ("x" * 100) / "trainer.sock", "north")


SERVER = """
import sys, time
from pathlib import Path
from client.channel import serve
from medgan_core.envelope import Envelope
def handler(envelope):
    time.sleep(float(envelope.head["seconds"]))
    return Envelope({"done": True}, {})
server = serve(handler, Path(sys.argv[1]), "north")
print("up", flush=True)
time.sleep(60)
"""


def start_server(place: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(place)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_a_killed_trainer_s_socket_is_taken_over_and_the_question_asked_again(place: Path) -> None:
    answers: list[Envelope] = []
    with start_server(place) as first:
        asking = threading.Thread(
            target=lambda: answers.append(Channel(place).ask(Envelope({"seconds": 0.6}, {}), 30, patience=20))
        )
        asking.start()
        time.sleep(0.4)
        first.send_signal(signal.SIGKILL)
    assert place.exists()
    with start_server(place) as second:
        asking.join()
        second.kill()
    assert answers[0].head == {"done": True}


def test_a_socket_that_nobody_answers_is_no_trainer(place: Path) -> None:
    place.parent.mkdir()
    with sockets.socket(sockets.AF_UNIX) as stale:
        stale.bind(str(place))
    with pytest.raises(TrainerError, match="not running"):
        Channel(place).ask(QUESTION, 5)
    with serve(echo, place, "north"):
        assert Channel(place).ask(QUESTION, 5).head


def test_neither_end_loads_torch_or_flower() -> None:
    code = "import sys, client.channel; print(sorted({'torch', 'flwr', 'opacus'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
