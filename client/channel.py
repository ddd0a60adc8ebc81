"""gRPC on a unix socket between a node and its trainer: one method, raw chunks in, raw chunks out.

The node's side is `Channel`, without torch and without knowledge of what it carries. The trainer's side is
`serve`: it answers a question to its end even when nobody waits any more, so that the answer is sealed and
the same question asked again gets it at once. Each side reads a chunk only when it has done with
the one before.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import grpc

from client.frames import CHUNK_BYTES, LIMIT_BYTES, chunks_of, envelope_of
from client.reasons import reason_for_coordinator, reason_for_log
from client.reception import let_in, reserved
from medgan_core.envelope import Envelope, refusal_to_envelope
from medgan_core.errors import MedGANError, TrainerError

Handler = Callable[[Envelope], Envelope]

_METHOD = "/medgan.Trainer/Ask"
_CALLS = 4
_PAUSE = 0.2
_STEADY = 2.0
_OPTIONS = (
    ("grpc.max_receive_message_length", CHUNK_BYTES + 1024),
    ("grpc.max_send_message_length", CHUNK_BYTES + 1024),
    ("grpc.enable_http_proxy", 0),
)
_log = logging.getLogger("medgan.trainer")


@dataclass(frozen=True)
class Heard:
    """One question that was answered: of which run ("" if it names none), and what it took.

    `kind` is what was asked: "proposal", "farewell", or the phase of a round. Sizes are in bytes; `seconds`
    leaves out how long the question waited for its turn.
    """

    run: str
    kind: str
    bytes_in: int
    bytes_out: int
    seconds: float
    refused: bool


class Channel:
    """The node's end."""

    def __init__(self, socket: Path, limit: int = LIMIT_BYTES) -> None:
        self._socket = socket
        self._limit = limit

    def ask(self, envelope: Envelope, timeout: float, patience: float = 0.0) -> Envelope:
        """The trainer's answer within `timeout` seconds.

        A trainer that is not there, or that goes away, is waited for `patience` seconds and asked again: it
        replays what it had sealed. Raises TrainerError when it does not come or answer in time, UpdateError
        for a message that cannot travel.
        """
        until = time.monotonic() + timeout
        gone: float | None = None
        while True:
            asked = time.monotonic()
            try:
                return self._ask(envelope, until - asked)
            except grpc.RpcError as error:
                now = time.monotonic()
                gone = asked if gone is None else gone if now - asked < _STEADY else now
                if error.code() is not grpc.StatusCode.UNAVAILABLE or now + _PAUSE > min(
                    gone + patience, until
                ):
                    raise _explained(error, timeout) from None
            time.sleep(_PAUSE)

    def _ask(self, envelope: Envelope, timeout: float) -> Envelope:
        with grpc.insecure_channel(f"unix:{self._socket.absolute()}", options=_OPTIONS) as channel:
            call = channel.stream_stream(_METHOD)(chunks_of(envelope), timeout=timeout)
            try:
                return envelope_of(call, self._limit)
            finally:
                call.cancel()


def _explained(error: Any, timeout: float) -> TrainerError:
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return TrainerError("the trainer is not running")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TrainerError(f"the trainer gave no answer within {timeout:g} s: it goes on, ask again")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return TrainerError("the trainer is busy with other calls: ask again")
    return TrainerError(f"the trainer broke off: {code.name}")


class Server:
    """A trainer that listens, until `stop`."""

    def __init__(self, server: grpc.Server, place: ExitStack, turns: "_Turns") -> None:
        self._server = server
        self._place = place
        self._turns = turns

    def stop(self, grace: float = 0.0) -> bool:
        """Take no more questions, let those in work go on for `grace` seconds, and free the socket.

        Whether no question is left in work: a thread cannot be ended.
        """
        self._server.stop(grace).wait()
        self._place.close()
        return self._turns.idle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    handler: Handler,
    socket: Path,
    site: str,
    group: int | None = None,
    limit: int = LIMIT_BYTES,
    heard: Callable[[Heard], None] | None = None,
) -> Server:
    """Answer at `socket` with `handler`, in threads; questions of one run come to it one after the other.

    `group` is the id of the group that may connect, beside the process's own user. A MedGANError of the
    handler becomes a refusal by `site` with as much of the reason as a coordinator may know. `heard` is told
    of every question, after its last chunk. Raises InputError where another trainer answers at the socket.
    """
    with ExitStack() as stack:
        stack.enter_context(reserved(socket, group))
        pool = futures.ThreadPoolExecutor(_CALLS, thread_name_prefix="ask")
        server = grpc.server(pool, options=_OPTIONS, maximum_concurrent_rpcs=_CALLS)
        desk = _Desk(handler, site, limit, heard or (lambda _: None))
        server.add_generic_rpc_handlers((desk,))
        server.add_insecure_port(f"unix:{socket.absolute()}")
        let_in(socket, group)
        server.start()
        return Server(server, stack.pop_all(), desk.turns)


class _Desk(grpc.GenericRpcHandler):
    def __init__(self, handler: Handler, site: str, limit: int, heard: Callable[[Heard], None]) -> None:
        self._handler = handler
        self._site = site
        self._limit = limit
        self._heard = heard
        self.turns = _Turns()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.stream_stream_rpc_method_handler(self._ask) if details.method == _METHOD else None

    def _ask(self, chunks: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        came, left = _Counted(chunks), 0
        run, kind, seconds = "", "", 0.0
        try:
            envelope = envelope_of(came, self._limit)
            run, kind = _named(envelope.head)
            with self.turns.of(run, context.is_active) as come:
                if not come:
                    return
                start = time.monotonic()
                answer = self._handler(envelope)
                seconds = time.monotonic() - start
            del envelope
            out = chunks_of(answer)
        except grpc.RpcError:  # the node went away in the middle of its question
            return
        except Exception as error:
            answer = refusal_to_envelope(self._site, _reason(error))
            out = chunks_of(answer)
        try:
            for chunk in out:
                left += len(chunk)
                yield chunk
        finally:  # also where the node goes away before the last chunk
            self._heard(Heard(run, kind, came.bytes, left, seconds, "refusal" in answer.head))


def _reason(error: Exception) -> str:
    if isinstance(error, MedGANError):
        _log.warning("refused: %s", reason_for_log(error))
        return reason_for_coordinator(error)
    _log.error("a question that failed for a reason that is a bug", exc_info=error)
    return "failed: unexpected error"


def _named(head: dict[str, Any]) -> tuple[str, str]:
    """Run and kind of a question; empty where it does not say."""
    for kind in ("proposal", "farewell"):
        if isinstance(body := head.get(kind), dict):
            return str(body.get("run", "")), kind
    return str(head.get("run", "")), str(head.get("phase", ""))


class _Counted:
    """Chunks that are counted as they come."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.bytes += len(chunk)
            yield chunk


class _Turns:
    """A lock for every run that is asked about at this moment."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._locks: dict[str, tuple[Lock, int]] = {}

    def idle(self) -> bool:
        """Whether no run is asked about."""
        with self._guard:
            return not self._locks

    @contextmanager
    def of(self, run: str, wanted: Callable[[], bool]) -> Iterator[bool]:
        """Wait for the run's turn; False as soon as nobody wants the answer any more."""
        with self._guard:
            lock, waiting = self._locks.get(run, (Lock(), 0))
            self._locks[run] = lock, waiting + 1
        come = False
        try:
            while wanted() and not come:
                come = lock.acquire(timeout=_PAUSE)
            yield come
        finally:
            if come:
                lock.release()
            with self._guard:
                lock, waiting = self._locks.pop(run)
                if waiting > 1:
                    self._locks[run] = lock, waiting - 1
