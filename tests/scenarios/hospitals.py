"""A coordinator and three hospitals as they would be: daemons, real trainers, nodes that are another user.

site-1 lies on a small disk of its own. site-2 is like most. At site-3 nothing is as it should be: its people
have changed the trainer (`spoiled_trainer`), and its node runs as the trainer's own user.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from client.approvals import Approvals, Entry
from client.books import open_ledger
from client.daemon import private_paths
from client.diary import Diary
from client.folder import running
from client.node import free_port
from medgan_core.flower_app import write_app
from server.enrolment import Registered, enrol
from server.folder import CoordinatorFolder
from server.run_file import RunFiles, SiteStanding
from server.start import start
from server.superlink import CONNECTION, environment
from tests.client.sites import approve_all, configure, make_site
from tests.scenarios import hostile_client, hostile_server, opened
from tests.scenarios.federating import CLIENT, SERVER, Processes, called, children, until
from tests.scenarios.spoiled_trainer import GATE

NODE_USER = "nobody"
_DISK_BYTES = 24_000_000
_DAEMON = ("-P", "-m", "client.daemon", "--site")


class Hospital:
    """One site and its daemons."""

    def __init__(self, path: Path, processes: Processes) -> None:
        self.folder = make_site(
            path, path.name, data__path='"data/images.npz"', data__patients='"data/patients.csv"'
        )
        self.name = path.name
        self._processes = processes
        data = path / "data"
        data.mkdir(mode=0o700)
        for name in ("images.npz", "patients.csv"):
            (path / name).rename(data / name)

    def run(self) -> None:
        """`medgan-client run --node-user`, where Python is opened to that user if need be."""
        command = (*opened.around(), sys.executable, *_DAEMON, self.folder.path, "--node-user", NODE_USER)
        self._processes.start(self.name, *command, TMPDIR=str(self.folder.path.parent))

    def run_spoiled(self, gate: Path) -> None:
        """The same as two processes of one user, the trainer a changed one."""
        code = (sys.executable, "-m", "tests.scenarios.spoiled_trainer", "--site")
        started = self._processes.start
        started(
            f"{self.name}-trainer",
            *code,
            self.folder.path,
            "--only",
            "trainer",
            **{GATE: str(gate)},
        )
        until((self.folder.path / "node" / "node.json").exists, 400, "the node is handed its files")
        started(self.name, sys.executable, *_DAEMON, self.folder.path, "--only", "node")

    def trainer(self) -> int:
        """The process of the trainer."""
        [found] = children(self._processes.all[self.name].pid, "--only trainer")
        return found

    def command(self, name: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """`medgan-client` to its end."""
        return called(CLIENT, name, *arguments, "--site", self.folder.path)

    def agree(self, run: str) -> None:
        """The person at this site says yes to a run, as soon as it is there."""
        self.entry(run)
        approve_all(self.folder)

    def approve(self, run: str) -> "subprocess.CompletedProcess[str]":
        """The same, with `medgan-client`."""
        return self.command("approve", self.entry(run).digest[:12], "--yes")

    def entry(self, run: str) -> Entry:
        """A run as this site knows it, as soon as it does."""
        approvals = Approvals(self.folder.studies)
        until(lambda: approvals.of_run(run), 400, f"{run} is proposed to {self.name}")
        [found] = [entry for entry in approvals.all() if entry.proposal.run == run]
        return found

    def notes(self, kind: str, **facts: Any) -> list[dict[str, Any]]:
        """What the site's own log says of this kind, where these facts are so."""
        notes = [note.facts for note in Diary(self.folder.log).notes() if note.kind == kind]
        return [note for note in notes if facts.items() <= note.items()]

    def charged(self, run: str) -> list[tuple[str, int]]:
        """Kind and round of the entries of a run in the ledger, but for its hold and its end."""
        with open_ledger(self.folder, self.folder.config()) as ledger:
            entries = [(entry.kind, entry.body.get("receipt", entry.body)) for entry in ledger.entries()]
        return [(kind, body["round"]) for kind, body in entries if body.get("run") == run and "round" in body]

    def secrets(self) -> list[str]:
        """Names below the folder of what the node's user may not have."""
        paths = [path.relative_to(self.folder.path) for path in private_paths(self.folder)]
        return [*map(str, paths), "data", "data/patients.csv", "heads.json", "trainer.lock", "."]


class Hospitals:
    """The coordinator, the three, and what they do in a test."""

    def __init__(self, path: Path) -> None:
        self.path, self.processes = path, Processes(path)
        port = free_port()
        done = called(SERVER, "init", path / "c", "--host", "localhost", "--port", port)
        assert done.returncode == 0, done.stderr
        self.coordinator = CoordinatorFolder.open(path / "c")
        self.gate = path / "gate"
        self.sites = tuple(Hospital(path / f"site-{n}", self.processes) for n in (1, 2, 3))
        for site in self.sites:
            (site.folder.keys / "ca.crt").write_bytes((self.coordinator.tls / "ca.crt").read_bytes())
            configure(site.folder, coordinator__address=f'"localhost:{port}"')
            enrol(self.coordinator, site.folder.public_card)

    @contextmanager
    def running(self) -> Iterator["Hospitals"]:
        """All daemons run until the block ends."""
        first, second, third = self.sites
        with ExitStack() as stack:
            stack.callback(self.processes.end)
            up = (sys.executable, "-c", SERVER, "up", "--dir", self.coordinator.path)
            self.processes.start("up", *up, FLWR_SUPEREXEC_TASK_POLL_INTERVAL="0.2")
            first.run()
            second.run()
            third.run_spoiled(self.gate)
            until(lambda: len(Registered(self.coordinator).read()) == 3, 400, "nodes are let in", self.logs)
            until(
                lambda: all(running(site.folder) for site in self.sites), 400, "trainers are there", self.logs
            )
            yield self

    def propose(self, study: Path, *overrides: str) -> RunFiles:
        """What `medgan-server start` does."""
        return RunFiles(start(self.coordinator, study, (), overrides))

    def said(self, run: RunFiles, site: Hospital) -> SiteStanding:
        """What the coordinator's person sees of a site."""
        return run.sites.get(site.name, SiteStanding())

    def attack(self, names: list[str], orders: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Send the hostile bundle to all nodes through Flower; what it brought back, by site."""
        bundle, told = self.coordinator.flower / "hostile", self.coordinator.path / "told.json"
        write_app(bundle)
        for module, name in ((hostile_client, "client"), (hostile_server, "server")):
            (bundle / f"medgan_{name}_app.py").write_bytes(Path(str(module.__file__)).read_bytes())
        asked = {"names": json.dumps(names), "orders": json.dumps(orders)}
        (self.coordinator.path / "asked.json").write_text(json.dumps(asked))
        code = "from flwr.cli.app import app; app()"
        done = called(code, "run", bundle, CONNECTION, **environment(self.coordinator))
        assert done.returncode == 0, done.stdout + done.stderr
        until(told.exists, 400, "the hostile bundle has been everywhere", self.logs)
        return {answer["site"]: answer for answer in json.loads(told.read_text())}

    def logs(self) -> str:
        """The ends of all logs, for a test that fails."""
        places = ("*.log", "c/logs/*.log", "site-*/logs/*.log", "site-*/node-home/logs/*.log")
        paths = [path for place in places for path in self.path.glob(place)]
        return "\n".join(f"--- {p}\n{p.read_text(errors='replace')[-3000:]}" for p in paths)


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of 24 MB. Needs root."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES},mode=711", "none", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path, leave: int) -> Path:
    """A file that grows until at most `leave` bytes are left on the disk of this folder."""
    ballast = place / "ballast"
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while (left := os.statvfs(place)).f_bavail * left.f_frsize > leave:
            file.write(bytes(4096))
    return ballast
