"""One kill -9 inside of one phase of a round, and proof that it landed there.

A phase that lasts milliseconds is entered step by step: the process whose work it is (the trainer, the server
app) is stopped by SIGSTOP, let go for a fraction of a millisecond, and looked at again. It stands still while
the victim, itself or another process, is killed. Where the phase is nobody's alone, the disks are looked at
just before and just after the kill, and only a kill with the phase on both sides has landed.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from medgan_core.record import read_json
from server.run_file import RunFiles
from simulations.benchmarks.kills.phases import PHASES, Watch
from simulations.federation import Stage

PROCESSES = ("server app", "superlink", "node", "trainer")

_POLL_SECONDS = 0.003


@dataclass(frozen=True)
class _Work:
    """Whose work a phase is ("" for nobody's alone), and from which phase on that process is stepped.

    `step` are the seconds for which it is let go at a time, `spread` those within which the kill is placed by
    chance after the phase was found.
    """

    owner: str
    since: str
    step: float
    spread: float


_WORK = {
    "sending": _Work("", "", 0.0, 1.0),
    "asked": _Work("trainer", "sending", 0.0005, 0.0005),
    "training": _Work("trainer", "sending", 0.002, 0.02),
    "sealing": _Work("trainer", "training", 0.0005, 0.0005),
    "sealed": _Work("trainer", "training", 0.0005, 0.0002),
    "returning": _Work("", "", 0.0, 0.5),
    "arriving": _Work("server app", "returning", 0.0005, 0.0005),
    "aggregating": _Work("server app", "returning", 0.0005, 0.0002),
    "journal": _Work("server app", "returning", 0.0005, 0.0002),
}


@dataclass(frozen=True)
class Aim:
    """What is to be killed in which phase of which round."""

    phase: str
    process: str
    round: int


@dataclass(frozen=True)
class Hit:
    """A kill: whether it landed inside of the phase, and when, by the monotonic clock in seconds."""

    landed: bool
    when: float


def strike(aim: Aim, watch: Watch, processes: "Processes", random: Random, until: float) -> Hit | None:
    """Wait for the phase and kill; None where the phase passed, or the clock `until`, without a kill."""
    work = _WORK[aim.phase]
    if not _wait(aim, watch, work.since or aim.phase, until):
        return None
    if not work.owner:
        time.sleep(random.uniform(0.0, work.spread))
        return _kill(aim, watch, processes)
    owner = processes.find(work.owner)
    if owner is None:
        return None
    with _held(owner) as let_go:
        while (place := _place(aim, watch)) is None or place < 0:
            if time.monotonic() > until or not let_go(work.step):
                return None
        if place == 0:  # and a little further by chance
            let_go(random.uniform(0.0, work.spread))
        return _kill(aim, watch, processes)


def _kill(aim: Aim, watch: Watch, processes: "Processes") -> Hit | None:
    victim = processes.find(aim.process)
    if victim is None or _place(aim, watch) != 0:
        return None
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return None
    when = time.monotonic()
    return Hit(_place(aim, watch) == 0, when)


def _wait(aim: Aim, watch: Watch, phase: str, until: float) -> bool:
    """Wait until the round is in this phase or a later one; False where it is past the aim."""
    first = PHASES.index(phase) - PHASES.index(aim.phase)
    while (place := _place(aim, watch)) is None or place < first:
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_SECONDS)
    return place <= 0


def _place(aim: Aim, watch: Watch) -> int | None:
    """How many phases the round is past the aim, below 0 where it is before; None where that is unclear."""
    trace = watch.look()
    if trace.round != aim.round:
        return len(PHASES) if trace.round > aim.round else -len(PHASES)
    return PHASES.index(trace.phase) - PHASES.index(aim.phase) if trace.phase else None


@contextmanager
def _held(process: int) -> Iterator[Callable[[float], bool]]:
    """Stop a process; the function lets it go for so many seconds, False where it is gone."""

    def stop() -> bool:
        try:
            os.kill(process, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        while (state := _state(process)) not in ("T", "Z", ""):
            time.sleep(0.0002)
        return state == "T"

    def let_go(seconds: float) -> bool:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
        time.sleep(seconds)
        return stop()

    stop()
    try:
        yield let_go
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def _state(process: int) -> str:
    """A letter, as /proc has it: T is stopped, Z dead and not buried; "" is gone."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]


class Processes:
    """The processes of a federation, as /proc shows them; `site` is the hospital whose own are meant."""

    def __init__(self, stage: Stage, files: RunFiles, site: str) -> None:
        self._stage, self._files, self._site = stage, files, site

    def find(self, process: str) -> int | None:
        """The number of one of PROCESSES; None where it does not run at this moment."""
        if process == "server app":
            return self._server_app()
        folder = self._stage.coordinator if process == "superlink" else self._stage.site(self._site)
        words = {"superlink": "flower_superlink", "node": "client.supernode", "trainer": "--only trainer"}
        mark = re.compile(rf"{re.escape(str(folder))}[ /]")
        found = [
            int(path.name)
            for path in Path("/proc").glob("[0-9]*")
            if words[process] in (line := _command_line(path)) and mark.search(line)
        ]
        return found[0] if len(found) == 1 else None

    def _server_app(self) -> int | None:
        serving = self._files.run.path / "serving.json"
        if not serving.is_file():
            return None
        number = int(read_json(serving)["pid"])
        return number if "flwr-serverapp" in _command_line(Path(f"/proc/{number}")) else None


def _command_line(process: Path) -> str:
    try:
        return f"{(process / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()} "
    except OSError:
        return ""
