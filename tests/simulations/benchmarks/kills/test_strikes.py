"""A real process is brought into a phase step by step and killed there; one that is past it lives on."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from medgan_core.record import RunFolder, write_json
from server.run_file import RunFiles
from simulations.benchmarks.kills.phases import Watch
from simulations.benchmarks.kills.strikes import Aim, Processes, strike
from simulations.federation import Stage
from tests.simulations.benchmarks.kills.making import Disks

_SERVER = """
import pathlib, sys, time
run = pathlib.Path(sys.argv[1])
while not (run / "begin").exists():
    time.sleep(0.005)
part = run / "state" / ".round-000001.safetensors.0a1b2c3d.part"
part.touch()
time.sleep(0.005)
part.rename(run / "state" / "round-000001.safetensors")
(run / "rounds.jsonl").write_text("{}\\n")
(run / "beyond").touch()
time.sleep(60)
"""


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    made = Disks(tmp_path)
    made.note("asked")
    made.note("answered")
    made.arrive(0)
    made.arrive(1)
    return made


@contextmanager
def server_app(disks: Disks) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that journals a round as soon as it may."""
    process = subprocess.Popen([sys.executable, "-c", _SERVER, str(disks.run), "flwr-serverapp"])
    write_json(disks.run / "serving.json", {"pid": process.pid})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def processes(disks: Disks) -> Processes:
    return Processes(Stage(disks.path, ("site-1",)), RunFiles(RunFolder(disks.run)), "site-1")


def goes_on(disks: Disks, process: "subprocess.Popen[bytes]") -> None:
    """The process may journal, does so, and lives."""
    (disks.run / "begin").touch()
    end = time.monotonic() + 20
    while not (disks.run / "beyond").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert process.poll() is None


def test_the_kill_lands_in_a_phase_of_milliseconds(disks: Disks) -> None:
    watch, aim = Watch(disks.run, disks.site, 2), Aim("journal", "server app", 0)
    with server_app(disks) as process:
        (disks.run / "begin").touch()
        hit = strike(aim, watch, processes(disks), Random(0), time.monotonic() + 20)
        if hit is None:  # the phase may have gone by between two steps; then nobody was killed
            assert process.poll() is None
            return
        assert process.wait(10) == -signal.SIGKILL
    assert hit.landed
    assert watch.look().phase == "journal"
    assert not (disks.run / "beyond").exists()


def test_a_phase_that_is_past_kills_nobody_and_lets_all_go_on(disks: Disks) -> None:
    watch, aim = Watch(disks.run, disks.site, 2), Aim("sealed", "server app", 0)
    with server_app(disks) as process:
        assert strike(aim, watch, processes(disks), Random(0), time.monotonic() + 20) is None
        goes_on(disks, process)


def test_a_phase_that_does_not_come_ends_with_the_time_and_lets_all_go_on(disks: Disks) -> None:
    watch, aim = Watch(disks.run, disks.site, 2), Aim("journal", "server app", 0)
    with server_app(disks) as process:
        assert strike(aim, watch, processes(disks), Random(0), time.monotonic() + 0.3) is None
        goes_on(disks, process)


def test_only_processes_of_this_federation_are_found(disks: Disks) -> None:
    found = processes(disks)
    assert [found.find(name) for name in ("server app", "superlink", "node", "trainer")] == [None] * 4
    asleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    lookalike = subprocess.Popen([*asleep, f"{disks.site}0", "--only trainer"])
    own = subprocess.Popen([*asleep, str(disks.site), "--only trainer"])
    try:
        end = time.monotonic() + 10
        while found.find("trainer") != own.pid:
            assert time.monotonic() < end
    finally:
        for process in (lookalike, own):
            process.kill()
            process.wait()
