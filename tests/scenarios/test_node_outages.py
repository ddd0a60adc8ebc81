"""A real SuperNode under supervision and a real SuperLink: kills, outages, and strangers who stay outside."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.channel import serve
from client.node import NodeSettings, free_port, node_commands
from medgan_core.envelope import Envelope
from medgan_core.flower_app import write_app
from medgan_core.supervision import Supervisor
from tests.client.proxying import proxy
from tests.scenarios.superlink import FAR_NAME, SuperLink, make_certificates, make_node_key, wait_for

pytestmark = pytest.mark.scenario

SERVER = '''
"""Asks the one node a question, and writes the answer down."""
import json, os, time
from flwr.app import Message
from flwr.serverapp import Grid, ServerApp
from medgan_core.envelope import Envelope
from medgan_core.wire import envelope_from_records, envelope_to_records

app = ServerApp()

@app.main()
def main(grid, context):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.2)
    asked = envelope_to_records(Envelope({"run": context.run_config["run"], "phase": "train"}, {}))
    ids = set(grid.push_messages([Message(content=asked, dst_node_id=nodes[0], message_type="train")]))
    while not (replies := list(grid.pull_messages(ids))):
        time.sleep(0.2)
    [reply] = replies
    body = envelope_from_records(reply.content).head if reply.has_content() else str(reply.error)
    with open(os.path.join(os.environ["HOME"], context.run_config["run"]), "w") as file:
        json.dump(body, file)
'''


@contextmanager
def node(
    link: SuperLink, folder: Path, authority: Path | None = None, **changes: Any
) -> Iterator[Supervisor]:
    trusted = authority or link.folder / "ca.crt"
    settings = NodeSettings(
        "north", link.address, trusted, folder / "key", folder / "s" / "s", folder / "home"
    )
    settings = replace(settings, **changes)
    supervisor = Supervisor(node_commands(settings))
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join(30)


def ask(link: SuperLink, name: str) -> object:
    """Start a run of the bundle that asks the node, and wait for what it says."""
    app = link.folder / "app"
    write_app(app)
    (app / "medgan_server_app.py").write_text(SERVER)
    link.flwr("run", "app", "here", "-c", f'run="{name}"')
    wait_for((link.folder / name).exists)
    return json.loads((link.folder / name).read_text())


def test_strangers_stay_outside_and_are_told_why(
    link: SuperLink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown, misled = tmp_path / "unknown", tmp_path / "misled"
    for folder in (unknown, misled):
        folder.mkdir()
        make_node_key(folder / "key")
    link.register(misled / "key.pub", "misled")
    with node(link, unknown):
        wait_for(lambda: "its card is not enrolled there" in caplog.text)
    make_certificates(misled)  # another CA than the coordinator's
    with node(link, misled, misled / "ca.crt"):
        wait_for(lambda: "not of the CA that site.toml names" in caplog.text)
    keyless = [sys.executable, "-c", "from flwr.supernode.cli import flower_supernode; flower_supernode()"]
    keyless += ["--root-certificates", "ca.crt", "--superlink", link.address, "--port", str(free_port())]
    told = tmp_path / "keyless.log"
    with told.open("wb") as log:
        stranger = subprocess.Popen(
            keyless, cwd=link.folder, env=link.environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: b"Exit Code: " in told.read_bytes())
        assert link.online() == 0
    finally:
        os.killpg(stranger.pid, signal.SIGKILL)
        stranger.wait()


def test_a_node_answers_through_kills_and_outages(link: SuperLink, tmp_path: Path) -> None:
    link.register(make_node_key(tmp_path / "key"), "north")
    with (
        serve(lambda e: Envelope({"heard": e.head["run"]}, {}), tmp_path / "s" / "s", "north"),
        node(link, tmp_path) as supervisor,
    ):
        wait_for(lambda: link.online() == 1)
        assert ask(link, "first") == {"heard": "first"}

        link.kill()  # the coordinator is away
        time.sleep(3)
        assert supervisor.restarts() == {"node": 0, "superexec": 0}
        link.start()
        assert ask(link, "after-outage") == {"heard": "after-outage"}

        os.kill(supervisor.pids()["node"], signal.SIGKILL)
        wait_for(lambda: supervisor.restarts()["node"] >= 1)
        wait_for(lambda: (tmp_path / "home" / "node-id").exists())
        assert ask(link, "after-kill") == {"heard": "after-kill"}
    assert not (tmp_path / "home" / "node-id").exists()  # it took its leave


def test_a_node_reaches_its_coordinator_through_the_hospital_s_proxy_alone(
    link: SuperLink, tmp_path: Path
) -> None:
    link.register(make_node_key(tmp_path / "key"), "north")
    far = f"{FAR_NAME}:443"
    with (
        serve(lambda e: Envelope({"heard": e.head["run"]}, {}), tmp_path / "s" / "s", "north"),
        proxy({far: link.port}) as way,
        node(link, tmp_path, superlink=far, proxy=way.url),
    ):
        wait_for(lambda: link.online() == 1)
        assert ask(link, "through-a-proxy") == {"heard": "through-a-proxy"}
    assert set(way.asked) == {far}
