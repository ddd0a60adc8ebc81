"""`medgan-client run` as a person starts it: two processes, killed and stopped, with a real trainer."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.channel import Channel
from client.folder import SiteFolder
from medgan_core.envelope import answer_from_envelope, asked_to_envelope
from medgan_core.errors import TrainerError
from medgan_core.messages import Request, Update
from medgan_core.proposals import Proposal, Standing
from tests.client.sites import approve_all, configure, make_site, proposal, request
from tests.scenarios import opened
from tests.scenarios.federating import ROOT, children
from tests.scenarios.superlink import SuperLink, wait_for

pytestmark = pytest.mark.scenario


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder that any user may pass."""
    top = Path(tempfile.mkdtemp(prefix="medgan-"))
    top.chmod(0o755)
    yield top
    shutil.rmtree(top)


@contextmanager
def running(folder: SiteFolder, *options: str) -> Iterator[subprocess.Popen[str]]:
    around = opened.around() if "--node-user" in options else ()
    argv = [*around, sys.executable, "-m", "client.daemon", "--site", str(folder.path), *options]
    environment = os.environ | {"TMPDIR": str(folder.path.parent)}
    process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def uid_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def made(top: Path, link: SuperLink | None = None) -> SiteFolder:
    """A site that its coordinator knows, or one whose coordinator is not there."""
    folder = make_site(top / "site")
    for name in ("images.npz", "patients.csv"):
        (folder.path / name).chmod(0o600)
    if link is None:
        (folder.keys / "ca.crt").write_text("none")
        configure(folder, coordinator__address='"127.0.0.1:9"')
        return folder
    shutil.copy(link.folder / "ca.crt", folder.keys / "ca.crt")
    configure(folder, coordinator__address=f'"{link.address}"')
    link.register(folder.node_public_key, "site-1")
    return folder


def ask(folder: SiteFolder, asked: Proposal | Request) -> object:
    return answer_from_envelope(Channel(folder.socket).ask(asked_to_envelope(asked), 240, patience=240))


def test_trainer_and_node_come_back_replay_and_end_together(top: Path, link: SuperLink) -> None:
    folder = made(top, link)
    with running(folder) as process:
        standing = ask(folder, proposal(folder))
        assert isinstance(standing, Standing)
        assert standing.answer == "waiting"
        approve_all(folder)
        assert isinstance(standing := ask(folder, proposal(folder)), Standing)
        assert standing.approved, standing
        first = ask(folder, request(0))
        assert isinstance(first, Update)
        [trainer] = children(process.pid, "--only trainer")
        os.kill(trainer, signal.SIGKILL)
        again = ask(folder, request(0))
        assert isinstance(again, Update)
        assert again.digest() == first.digest()
        assert again.receipt == first.receipt
        assert children(process.pid, "--only trainer") != [trainer]
        wait_for(lambda: link.online() == 1)
        parts = [process.pid, *children(process.pid, "--only")]
        nodes = [pid for part in parts for pid in children(part, "client.supernode")]
        assert len(nodes) == 1
        process.send_signal(signal.SIGKILL)  # nothing may be left behind
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in [*parts[1:], *nodes]))
    with pytest.raises(TrainerError):
        Channel(folder.socket).ask(asked_to_envelope(proposal(folder)), 5)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_the_node_runs_as_its_own_user(top: Path, link: SuperLink) -> None:
    folder = made(top, link)
    with running(folder, "--node-user", "nobody") as process:
        wait_for(lambda: process.poll() is not None or children(process.pid, "--only node"))
        [node] = children(process.pid, "--only node")
        wait_for(lambda: uid_of(node) == 65534)
        wait_for(lambda: link.online() == 1)
        [trainer] = children(process.pid, "--only trainer")
        [supernode] = children(node, "client.supernode")
        assert (uid_of(trainer), uid_of(supernode)) == (0, 65534)


def test_a_second_trainer_of_a_site_is_refused_in_one_line(top: Path) -> None:
    folder = made(top)
    with running(folder, "--only", "trainer"):
        wait_for(folder.socket.exists)
        argv = [sys.executable, "-m", "client.daemon", "--site", str(folder.path), "--only", "trainer"]
        second = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in second.stderr
