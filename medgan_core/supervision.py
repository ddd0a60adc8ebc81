"""Processes that are kept alive: restarted when they end, stopped together, their output kept within bounds.

A child ends with its supervisor, however that ends: on Linux the kernel sees to it. Each child has a process
group of its own, and what is left in it when the child ends is ended too.
"""

import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Any

from medgan_core.errors import InputError

_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1
_log = logging.getLogger("medgan.supervision")

# Set in the child's own interpreter before it becomes the command: safe however many threads the parent has.
# A parent that died before is seen by its number.
_LAUNCHER = f"""
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{{sys.argv[2]}} cannot be started: {{error.strerror}}")
"""


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a restart, in seconds: doubled each time up to `most`, less a share by chance.

    A child that lived for `healthy` seconds begins again at `first`.
    """

    first: float = 1.0
    most: float = 60.0
    jitter: float = 0.3
    healthy: float = 60.0

    def delay(self, failures: int, chance: float) -> float:
        """The wait after so many failures in a row, 1 or more; `chance` is uniform in [0, 1)."""
        full = min(self.most, self.first * 2.0 ** min(failures - 1, 62))
        return full * (1.0 - self.jitter * chance)


@dataclass(frozen=True)
class Command:
    """What a child is: its command line, made anew for each start, its whole environment, and its log file.

    `user` and `groups` (the first is the main one) are numeric and need root; None and () keep those of the
    supervisor. The log holds at most `log_bytes`, and as many again in each of `log_files` older ones. On
    SIGTERM the child has `grace` seconds. `told` gets each line of its output; where it returns True, the
    child is ended and started again.
    """

    name: str
    argv: Callable[[], Sequence[str]]
    env: Mapping[str, str]
    log: Path
    folder: Path | None = None
    user: int | None = None
    groups: tuple[int, ...] = ()
    grace: float = 10.0
    log_bytes: int = 5_000_000
    log_files: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    told: Callable[[str], bool] | None = None


class Supervisor:
    """Keeps children alive until it is stopped. `ended(name, code, seconds)` hears of every end."""

    def __init__(
        self, commands: Sequence[Command], ended: Callable[[str, int, float], None] | None = None
    ) -> None:
        self._children = [_Child(command, ended or (lambda *_: None)) for command in commands]
        self._stop = threading.Event()

    def run(self) -> None:
        """Start the children and stay until `stop`; then end them, the last one first.

        Must run in a thread that lives as long as they shall: the kernel ends a child with its thread.
        """
        try:
            while not self._stop.wait(_POLL_SECONDS):
                for child in self._children:
                    child.look()
        finally:
            for child in reversed(self._children):
                child.stop()

    def stop(self) -> None:
        """Let `run` come to its end; from a signal handler or from another thread."""
        self._stop.set()

    def pids(self) -> dict[str, int]:
        """The process ids of the children that live, by name."""
        return {child.command.name: child.pid for child in self._children if child.pid}

    def restarts(self) -> dict[str, int]:
        """How often each child was started again."""
        return {child.command.name: max(0, child.starts - 1) for child in self._children}


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM, SIGINT and SIGHUP. Only in the main thread."""
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {kind: signal.signal(kind, lambda *_: stop()) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


class _Child:
    def __init__(self, command: Command, ended: Callable[[str, int, float], None]) -> None:
        self.command = command
        self.starts = 0
        self._ended = ended
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._started = 0.0
        self._due = 0.0
        self._unwell = threading.Event()

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def look(self) -> None:
        """Start it if it is due, see whether it ended, end it if it is unwell."""
        if self._process is None:
            if time.monotonic() >= self._due:
                self._start()
        elif (code := self._process.poll()) is not None:
            self._over(code)
        elif self._unwell.is_set():
            _log.warning("%s says that it cannot go on: it is started again", self.command.name)
            self._over(self._end(self._process))

    def stop(self) -> None:
        if self._process is not None:
            code = self._end(self._process)
            _log.info("%s stopped with %s", self.command.name, _described(code))
            self._process = None

    def _start(self) -> None:
        self._unwell = threading.Event()
        self._started = time.monotonic()
        self.starts += 1
        self._process = _launch(self.command)
        _log.info("%s runs as process %d", self.command.name, self._process.pid)
        reader = threading.Thread(
            target=_keep,
            args=(self.command, self._process, self._unwell),
            daemon=True,
            name=self.command.name,
        )
        reader.start()

    def _over(self, code: int) -> None:
        lived = time.monotonic() - self._started
        _sweep(self.pid)
        self._process = None
        self._failures = 1 if lived >= self.command.backoff.healthy else self._failures + 1
        wait = self.command.backoff.delay(self._failures, random.random())
        self._due = time.monotonic() + wait
        _log.warning(
            "%s ended with %s after %.1f s: started again in %.1f s",
            self.command.name,
            _described(code),
            lived,
            wait,
        )
        self._ended(self.command.name, code, lived)

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        process.terminate()
        try:
            return process.wait(self.command.grace)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            _sweep(process.pid)


def _launch(command: Command) -> subprocess.Popen[bytes]:
    who: dict[str, Any] = {} if command.user is None else {"user": command.user}
    if command.groups:
        who |= {"group": command.groups[0], "extra_groups": list(command.groups[1:])}
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command.argv()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(command.env),
            cwd=command.folder,
            start_new_session=True,
            **who,
        )
    except PermissionError as error:
        raise InputError(
            f"{command.name} cannot be started as another user: run as root, and install Python where that "
            "user may run it"
        ) from error


def _keep(command: Command, process: subprocess.Popen[bytes], unwell: threading.Event) -> None:
    """Bring a child's output into its log, line by line, until its last descendant is gone."""
    output = process.stdout
    if output is None:
        raise ValueError(f"{command.name} was started without a pipe for its output")
    command.log.parent.mkdir(parents=True, exist_ok=True)
    log = RotatingFileHandler(
        command.log, maxBytes=command.log_bytes, backupCount=command.log_files, encoding="utf-8", delay=True
    )
    log.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    with output:
        for line in _lines(output):
            said = _OWN_TIME.sub("", line)
            log.emit(logging.LogRecord(command.name, logging.INFO, "", 0, said, None, None))
            if command.told is not None and command.told(line):
                unwell.set()
    log.close()


_LONGEST_LINE = 8192
_OWN_TIME = re.compile(r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?Z?\s+")
"""The time with which a child begins its lines, Flower's in UTC: each line gets one, of one clock."""


def _lines(output: IO[bytes]) -> Iterator[str]:
    while line := output.readline(_LONGEST_LINE):
        yield line.decode(errors="replace").rstrip("\r\n")


def _sweep(group: int) -> None:
    """End what a child has left behind in its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _described(code: int) -> str:
    return f"code {code}" if code >= 0 else signal.Signals(-code).name
