"""Children that are kept alive: real processes, tiny ones."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from medgan_core.errors import InputError
from medgan_core.supervision import Backoff, Command, Supervisor

QUICK = Backoff(first=0.05, most=0.2, healthy=60)
FOREVER = "import time; print('up', flush=True); time.sleep(60)"


def command(tmp_path: Path, code: str, name: str = "child", backoff: Backoff = QUICK) -> Command:
    return Command(
        name,
        lambda: [sys.executable, "-c", code],
        {"PATH": os.defpath, "MARK": "clean"},
        tmp_path / f"{name}.log",
        grace=1.0,
        backoff=backoff,
    )


@contextmanager
def running(
    *commands: Command, ended: Callable[[str, int, float], None] | None = None
) -> Iterator[Supervisor]:
    supervisor = Supervisor(commands, ended)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join(timeout=20)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


def text(path: Path) -> str:
    with suppress(FileNotFoundError):  # also while it is rotated
        return path.read_text()
    return ""


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_that_is_killed_comes_back(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    with running(command(tmp_path, FOREVER)) as supervisor:
        wait_for(lambda: "up" in text(log))
        first = supervisor.pids()["child"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: text(log).count("up") == 2)
        assert supervisor.pids()["child"] != first
        assert supervisor.restarts() == {"child": 1}
        last = supervisor.pids()["child"]
    assert not lives(last)


def test_ends_are_logged_with_their_code(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[str, int]] = []
    caplog.set_level(logging.INFO)
    code = "import sys; sys.exit(49)"
    with running(command(tmp_path, code), ended=lambda name, code, _: heard.append((name, code))):
        wait_for(lambda: len(heard) >= 3)
    assert heard[0] == ("child", 49)
    assert "child ended with code 49 after" in caplog.text
    assert "started again in" in caplog.text


def test_the_wait_doubles_up_to_its_most_and_is_spread_by_chance() -> None:
    backoff = Backoff(first=1, most=60, jitter=0.3)
    assert [backoff.delay(n, 0.0) for n in (1, 2, 3, 4, 6, 7, 9999)] == [1, 2, 4, 8, 32, 60, 60]
    assert backoff.delay(3, 0.5) == pytest.approx(4 * 0.85)


def test_failures_wait_longer_and_longer_and_a_healthy_life_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = "import pathlib, time; n = len(list(pathlib.Path('.').glob('m*'))); pathlib.Path(f'm{n}').touch();"
    code += "time.sleep(8 if n == 3 else 0)"
    backoff = Backoff(first=0.1, most=10, jitter=0, healthy=7)
    heard: list[str] = []
    made = replace(command(tmp_path, code, backoff=backoff), folder=tmp_path)
    with running(made, ended=lambda name, code, seconds: heard.append(name)):
        wait_for(lambda: len(heard) >= 4, 60)
    waits = [line.rpartition(" in ")[2] for line in caplog.messages if "started again in" in line]
    assert waits[:4] == ["0.1 s", "0.2 s", "0.4 s", "0.1 s"]


def test_a_child_gets_its_own_environment_folder_and_nothing_else(tmp_path: Path) -> None:
    code = "import os, time; print(sorted(os.environ), os.getcwd(), flush=True); time.sleep(60)"
    with running(replace(command(tmp_path, code), folder=tmp_path)):
        wait_for(lambda: str(tmp_path) in text(tmp_path / "child.log"))
    assert "HOME" not in text(tmp_path / "child.log")
    assert "MARK" in text(tmp_path / "child.log")


def test_a_child_that_does_not_heed_is_killed_with_all_it_started(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('grandchild', p.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "child.log"
    with running(command(tmp_path, code)):
        wait_for(lambda: "grandchild" in text(log))
    grandchild = int(text(log).split()[-1])
    wait_for(lambda: not lives(grandchild))


def test_what_a_dead_child_left_behind_is_ended_before_the_next_begins(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys, time;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print('grandchild', p.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "child.log"
    with running(command(tmp_path, code)) as supervisor:
        wait_for(lambda: "grandchild" in text(log))
        grandchild = int(text(log).split()[-1])
        os.kill(supervisor.pids()["child"], signal.SIGKILL)
        wait_for(lambda: not lives(grandchild))


def test_a_child_may_say_that_it_cannot_go_on(tmp_path: Path) -> None:
    code = "import time; print('Exit is near', flush=True); time.sleep(60)"
    with running(replace(command(tmp_path, code), told=lambda line: "near" in line)) as supervisor:
        wait_for(lambda: supervisor.restarts()["child"] >= 2)


def test_every_line_has_one_time_whatever_the_child_puts_before_it(tmp_path: Path) -> None:
    lines = [
        "2026-11-21 00:01:05,043 ours",
        "2026-11-21T00:01:05.043Z INFO [uvicorn.error] UTC",
        "at 2026-11-21 00:01:05 in the middle",
        "none",
    ]
    heard: list[str] = []
    code = f"import time; print({chr(10).join(lines)!r}, flush=True); time.sleep(60)"

    def told(line: str) -> bool:
        heard.append(line)
        return False

    with running(replace(command(tmp_path, code), told=told)):
        wait_for(lambda: "none" in text(tmp_path / "child.log"))
    kept = [line.split(" ", 2) for line in text(tmp_path / "child.log").splitlines()]
    assert [said for _, _, said in kept] == ["ours", "INFO [uvicorn.error] UTC", *lines[2:]]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d,\d{3}", clock) for _, clock, _ in kept)
    assert heard == lines


def test_logs_are_bounded(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfor n in range(20000): print('x' * 99)\nprint('done', flush=True); time.sleep(60)"
    )
    made = replace(command(tmp_path, code), log_bytes=50_000, log_files=2)
    with running(made):
        wait_for(lambda: "done" in text(tmp_path / "child.log"))
    sizes = [path.stat().st_size for path in tmp_path.glob("child.log*")]
    assert len(sizes) == 3
    assert max(sizes) <= 50_000


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.stdout.write('y' * 3_000_000 + 'END\\n'); sys.stdout.flush(); time.sleep(60)"
    )
    with running(command(tmp_path, code)):
        wait_for(lambda: "END" in text(tmp_path / "child.log"))


def test_several_children_are_kept_apart(tmp_path: Path) -> None:
    good, bad = command(tmp_path, FOREVER, "good"), command(tmp_path, "raise SystemExit(3)", "bad")
    with running(good, bad) as supervisor:
        wait_for(lambda: supervisor.restarts()["bad"] >= 3)
        assert supervisor.restarts()["good"] == 0
    assert "up" in text(tmp_path / "good.log")


def test_a_command_that_is_not_there_says_so_in_its_log(tmp_path: Path) -> None:
    made = replace(command(tmp_path, ""), argv=lambda: ["no-such-command"])
    with running(made):
        wait_for(lambda: "no-such-command cannot be started: No such file" in text(tmp_path / "child.log"))


SUPERVISOR = """
import os, sys
from pathlib import Path
from medgan_core.supervision import Command, Supervisor, stopped_by_signals
code = "import os, time; print('pid', os.getpid(), flush=True); time.sleep(60)"
made = [Command(n, lambda: [sys.executable, "-c", code], {}, Path(sys.argv[1], n + ".log")) for n in "ab"]
supervisor = Supervisor(made)
with stopped_by_signals(supervisor.stop):
    supervisor.run()
print("stopped", flush=True)
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_orphan_outlives_its_supervisor(tmp_path: Path, kind: signal.Signals) -> None:
    argv = [sys.executable, "-c", SUPERVISOR, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        logs = [tmp_path / "a.log", tmp_path / "b.log"]
        wait_for(lambda: all("pid" in text(log) for log in logs))
        pids = [int(text(log).split()[-1]) for log in logs]
        process.send_signal(kind)
        out = process.communicate(timeout=20)[0]
    wait_for(lambda: not any(map(lives, pids)), 5)
    assert out == ("" if kind == signal.SIGKILL else "stopped\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_child_runs_as_another_user_with_that_user_s_groups_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    made = replace(
        command(tmp_path, ""),
        argv=lambda: ["/usr/bin/id"],
        user=65534,
        groups=(65534, 12345),
        backoff=Backoff(30),
    )
    if not _readable_by_others(Path(sys.executable).resolve()):
        pytest.skip("this Python lies where another user may not run it")
    with running(made):
        wait_for(lambda: "uid=65534" in text(tmp_path / "child.log"))
    assert "groups=65534(nogroup),12345\n" in text(tmp_path / "child.log")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_user_who_may_not_run_python_is_named(tmp_path: Path) -> None:
    if _readable_by_others(Path(sys.executable).resolve()):
        pytest.skip("this Python lies where any user may run it")
    made = replace(command(tmp_path, ""), user=65534, groups=(65534,))
    with pytest.raises(InputError, match="install Python where that user may run it"):
        Supervisor([made]).run()


def _readable_by_others(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in path.parents)
