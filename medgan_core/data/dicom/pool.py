"""Workers at hand: tasks go out, answers come back in whatever order; a worker that ends is replaced."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType

from medgan_core.data.dicom.reasons import Refusal
from medgan_core.data.dicom.work import Answer, Settings, Task
from medgan_core.data.dicom.worker import TIMERS
from medgan_core.errors import MedGANError

_AHEAD = 16  # small messages, so that neither side waits for the other to be scheduled
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_THREAD_LIMIT"), "1")
# a worker's memory is limited: it must not take large blocks ahead of need
_PLAIN_MEMORY = ("MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")

Numbered = tuple[int, Task]


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    asked: deque[Numbered] = field(default_factory=deque)

    def room(self) -> int:
        """How many tasks it may be sent now; bytes go alone, lest both sides wait for the other to read."""
        if any(isinstance(task.source, bytes) for _, task in self.asked):
            return 0
        return _AHEAD - len(self.asked)


class Pool:
    """Some worker processes, until the context ends."""

    def __init__(self, settings: Settings, workers: int | None = None) -> None:
        self._settings = settings
        self._count = workers or max(1, len(os.sched_getaffinity(0)))
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Pool":
        self._workers = [_start(self._settings) for _ in range(self._count)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            _end(worker)
        self._workers = []

    def pids(self) -> list[int]:
        """The workers that run now."""
        return [worker.process.pid for worker in self._workers]

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Answer]]:
        """The answer to each task with its place in the order, as they come."""
        waiting = iter(enumerate(tasks))
        again: deque[Numbered] = deque()
        self._feed(waiting, again)
        while busy := {w.connection: w for w in self._workers if w.asked}:
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                found = _receive(worker)
                if found is None:
                    yield self._replace(worker, again)
                else:
                    yield worker.asked.popleft()[0], found
            self._feed(waiting, again)

    def _feed(self, waiting: Iterator[Numbered], again: deque[Numbered]) -> None:
        """Send what there is to those who have little to do, evenly."""
        for _ in range(_AHEAD):
            for worker in sorted(self._workers, key=lambda w: len(w.asked)):
                if worker.room() < 1:
                    continue
                following = again.popleft() if again else next(waiting, None)
                if following is None:
                    return
                if isinstance(following[1].source, bytes) and worker.asked:
                    again.appendleft(following)
                    continue
                worker.asked.append(following)
                _send(worker, following[1])

    def _replace(self, worker: _Worker, again: deque[Numbered]) -> tuple[int, Answer]:
        """A new worker for one that ended at its first task; that one is refused, the others go out again."""
        code = _end(worker)
        self._workers.remove(worker)
        self._workers.append(_start(self._settings))  # last, since it has yet to start
        number, _ = worker.asked.popleft()
        again.extend(worker.asked)
        timed_out = -code in TIMERS
        return number, Answer(refusal=Refusal.TIMEOUT if timed_out else Refusal.CRASH)


def _start(settings: Settings) -> _Worker:
    ours, theirs = Pipe()
    path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if name not in _PLAIN_MEMORY}
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "medgan_core.data.dicom.worker", str(theirs.fileno()), settings.as_text()],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment | _ONE_THREAD | {"PYTHONPATH": path.rstrip(os.pathsep)},
        )
    except OSError as error:
        raise MedGANError(f"no process for reading DICOM could be started: {error.strerror}") from None
    theirs.close()
    return _Worker(process, ours)


def _send(worker: _Worker, task: Task) -> None:
    message, body = task.as_message()
    with suppress(BrokenPipeError, ConnectionResetError):  # an end is noticed when its answer is awaited
        worker.connection.send_bytes(message)
        worker.connection.send_bytes(b"" if body is None else b"body")
        if body is not None:
            worker.connection.send_bytes(body)


def _receive(worker: _Worker) -> Answer | None:
    """The next answer; None where the worker ended."""
    try:
        first = worker.connection.recv_bytes()
        return Answer.of_messages(
            [first, *(worker.connection.recv_bytes() for _ in range(Answer.more(first)))]
        )
    except (EOFError, OSError):
        return None


def _end(worker: _Worker) -> int:
    """Its exit code, negative for the signal that ended it."""
    worker.connection.close()
    try:
        return worker.process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        return worker.process.wait()
