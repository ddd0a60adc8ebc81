"""A federation of real processes on loopback: coordinator, nginx, SuperNodes. The sites live in the test."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from client.node import free_port
from medgan_core.record import RunFolder, read_json
from server.enrolment import Registered
from server.folder import CoordinatorFolder
from server.run_file import RunFiles
from tests.server.sites import Served, TestSite
from tests.simulations.making import environment

ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
SERVER = "from server.cli import main; main()"
CLIENT = "from client.cli import main; main()"
_NODE = "from flwr.supernode.cli import flower_supernode; flower_supernode()"


def until(true: Callable[[], object], seconds: float, what: str, logs: Callable[[], str] = str) -> None:
    """Wait for something; where it does not come, the logs are told."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}\n{logs()}"
        time.sleep(0.05)


def settled() -> dict[str, str]:
    """The environment of all processes: nothing goes out, this tree is imported."""
    return environment() | {
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }


def called(code: str, *arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    """One of our commands to its end."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=settled() | variables,
        timeout=400,
        cwd=ROOT,
    )


class Processes:
    """Processes that belong together: each in a group of its own, its output in `folder`, ended as one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: object, **variables: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.all[name] = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=settled() | variables,
                cwd=ROOT,
                start_new_session=True,
            )

    def end(self) -> None:
        for process in reversed(self.all.values()):
            if process.poll() is None:
                process.terminate()
        for process in self.all.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


class Federation:
    """A coordinator in a folder of its own with `sites`, each of them behind a SuperNode."""

    def __init__(self, path: Path, data: Path, sites: int = 2, proxy: bool = True) -> None:
        self.path = path
        self.port, self.proxy_port = free_port(), free_port() if proxy else 0
        ports = ("--port", self.port, *(("--proxy-port", self.proxy_port) if proxy else ()))
        done = self.command("init", path / "c", "--host", "coordinator.test", *ports)
        assert done.returncode == 0, done.stderr
        self.folder = CoordinatorFolder.open(path / "c")
        (client,) = self.folder.app.glob("*client*.py")
        client.write_text('from tests.server.client_app import app\n\n__all__ = ["app"]\n')
        self.sites = [TestSite(number, path / f"s{number}", data) for number in range(1, sites + 1)]
        for site in self.sites:
            site.card.write(path / f"{site.name}.json")
            done = self.command("enroll", path / f"{site.name}.json", "--dir", self.folder.path)
            assert done.returncode == 0, done.stderr
        self._processes = Processes(path)

    def command(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """`medgan-server` to its end."""
        return called(SERVER, *arguments)

    @contextmanager
    def running(self) -> Iterator["Federation"]:
        """Coordinator, proxy and nodes run until the block ends."""
        with ExitStack() as stack:
            for site in self.sites:
                stack.callback(Served(site).close)
                stack.callback(site.close)
            stack.callback(self._processes.end)
            self.up()
            until(lambda: len(Registered(self.folder).read()) == len(self.sites), 60, "nodes are let in")
            if self.proxy_port:
                self._processes.start(
                    "nginx", NGINX, "-c", self.folder.nginx, "-p", self.folder.path, "-g", "daemon off;"
                )
            for site in self.sites:
                self.node(site)
            yield self

    def up(self) -> None:
        self._processes.start("up", sys.executable, "-c", SERVER, "up", "--dir", self.folder.path)

    def node(self, site: TestSite) -> None:
        """Start a site's SuperNode."""
        home = site.home / "flower"
        home.mkdir(exist_ok=True)
        command: list[object] = [sys.executable, "-c", _NODE]
        command += ["--root-certificates", self.folder.tls / "ca.crt"]
        command += ["--superlink", f"127.0.0.1:{self.proxy_port or self.port}", "--port", free_port()]
        command += ["--auth-supernode-private-key", site.write_node_key()]
        command += ["--node-config", f'socket="{site.home / "s"}"']
        self._processes.start(site.name, *command, FLWR_HOME=str(home))

    def start(self, study: Path, *arguments: object) -> RunFiles:
        done = self.command("start", study, "--dir", self.folder.path, *arguments)
        assert done.returncode == 0, done.stderr
        return RunFiles(RunFolder(self.folder.runs / done.stdout.split()[-1]))

    def server_app(self, files: RunFiles) -> int:
        """The process that serves a run."""
        return int(read_json(files.run.path / "serving.json")["pid"])

    def superlink(self) -> int:
        """SuperLink's process."""
        [found] = [pid for pid in _pids() if str(self.folder.database) in _command_line(pid)]
        return found

    def logs(self) -> str:
        """The ends of all logs, for a test that fails."""
        paths = [*self.path.glob("*.log"), *self.folder.logs.glob("*.log")]
        return "\n".join(f"--- {p.name}\n{p.read_text(errors='replace')[-3000:]}" for p in paths)

    @property
    def processes(self) -> dict[str, "subprocess.Popen[bytes]"]:
        return self._processes.all


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def children(pid: int, words: str) -> list[int]:
    """The processes below this one whose command line holds these words."""
    return [found for found in _pids() if _parent(found) == pid and words in _command_line(found)]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
