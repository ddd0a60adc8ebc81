"""The process that parses and decodes: what a damaged file can hang, crash or fill is this process alone.

It is started with the number of a socket and the settings, answers tasks one by one and ends with its parent.
Nothing is pickled. Timers of the system end the process in the midst of whatever library it is in: one counts
the processor's time, so that a loaded machine refuses no file, and a longer one counts all time.
"""

import resource
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from medgan_core.data.dicom.sources import Source, file_of
from medgan_core.data.dicom.text import SECONDS
from medgan_core.data.dicom.work import Answer, Settings, Task, answer

TIMERS = (signal.SIGPROF, signal.SIGALRM)
"""What ends a process that takes too long."""
HEADER_SECONDS = 0.5
LEAST_SECONDS = 1.4
"""Of the processor, for the pixels of a file of up to 2 MiB; each further MiB has half a second more."""
_PATIENCE = 10
MEMORY = 512 << 20
"""Bytes that a worker may take beyond what it has at its start."""


def serve(connection: Connection, settings: Settings) -> None:
    """Answer tasks until the other side closes."""
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            message = connection.recv_bytes()
            body = connection.recv_bytes() if connection.recv_bytes() == b"body" else None
            for part in _timed(Task.of_message(message, body), settings).as_messages():
                connection.send_bytes(part)


def _timed(task: Task, settings: Settings) -> Answer:
    looks = 2 * SECONDS * max(1, len(task.frames)) if task.text else 0
    seconds = HEADER_SECONDS if task.header or task.dataset else 0.0
    seconds += allowed(task.source) if task.frames else 0.0
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE * seconds + looks)
    try:
        return answer(task, settings)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def allowed(source: Source) -> float:
    """How many seconds of the processor the pixels of a file may take."""
    path = file_of(source)
    try:
        size = len(source) if isinstance(source, bytes) else path.stat().st_size if path else 0
    except OSError:
        size = 0
    return LEAST_SECONDS + max(0.0, size / (1 << 20) - 2) / 2


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """`worker DESCRIPTOR SETTINGS`, as the pool starts it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    for timer in TIMERS:
        signal.signal(timer, signal.SIG_DFL)
    if sys.platform == "linux":
        _limit_memory()
    serve(Connection(int(sys.argv[1])), Settings.of_text(sys.argv[2]))


if __name__ == "__main__":
    main()
