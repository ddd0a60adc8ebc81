"""A coordinator's processes with Flower and nginx between: what outsiders reach, kills in the middle."""

import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from medgan_core.messages import Request
from medgan_core.release.check.policy import policy_text
from medgan_core.release.verify import verify_release
from server.flower_state import size
from tests.medgan_core.release.check.making import LENIENT
from tests.scenarios.federating import NGINX, Federation, until
from tests.server.sites import TestSite
from tests.simulations.making import study_file, write_set

pytestmark = pytest.mark.scenario
needs_nginx = pytest.mark.skipif(not Path(NGINX).exists(), reason="nginx is not installed")
CHARGES = 4


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    path = tmp_path_factory.mktemp("f")
    with Federation(path, write_set(path / "data"), proxy=Path(NGINX).exists()).running() as running:
        yield running


@pytest.fixture(scope="module")
def outside(federation: Federation) -> Iterator[httpx.Client]:
    """Somebody out there who has the coordinator's certificate."""
    context = ssl.create_default_context(cafile=str(federation.folder.tls / "ca.crt"))
    with httpx.Client(base_url=f"https://127.0.0.1:{federation.proxy_port}", verify=context) as client:
        yield client


@needs_nginx
@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/control/stop-run",
        "/v1/control/list-nodes",
        "/v1/runtime/acquire-task",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet/..%2fcontrol%2fstart-run",
        "//v1/control/start-run",
        "/v1/fleet/",
        "/docs",
        "/",
    ],
)
def test_from_outside_there_is_nothing_but_the_fleet_api(
    federation: Federation, outside: httpx.Client, path: str
) -> None:
    until(lambda: _reached(federation), 30, "nginx listens")
    request = httpx.Request("POST", f"https://127.0.0.1:{federation.proxy_port}")
    # As it stands, without the tidying up of a well-behaved client.
    request.url = request.url.copy_with(raw_path=path.encode())
    request.headers["host"] = "coordinator.test"
    assert outside.send(request).status_code == 403


@needs_nginx
def test_the_fleet_api_is_reached_from_outside_and_wants_a_known_key(
    federation: Federation, outside: httpx.Client
) -> None:
    until(lambda: _reached(federation), 30, "nginx listens")
    answer = outside.post("/v1/fleet/pull-messages", content=b"")
    assert answer.status_code in (400, 401, 415, 422)
    assert outside.get("/v1/fleet/pull-messages").status_code == 403


def test_kills_of_serverapp_and_superlink_lose_no_round_and_charge_nothing_twice(
    federation: Federation,
) -> None:
    files = federation.start(study_file(federation.path))
    killed: list[str] = []
    for number, kill in ((0, "server app"), (1, "superlink"), (3, "server app")):
        until(
            lambda number=number: _asked(federation.sites[0], number),  # type: ignore[misc]
            400,
            f"round {number} is asked of a site",
            federation.logs,
        )
        pid = federation.server_app(files) if kill == "server app" else federation.superlink()
        os.kill(pid, signal.SIGKILL)
        killed.append(kill)
    until(
        lambda: files.standing.state not in ("proposing", "running"),
        400,
        "the run ends",
        federation.logs,
    )
    assert files.standing.state == "finished", federation.logs()
    for site in federation.sites:
        assert site.kinds(files.run.name).count("charge") == CHARGES
    assert len((files.run.path / "rounds.jsonl").read_text().splitlines()) == CHARGES
    assert verify_release(files.run.release).epsilon > 0
    assert size(federation.folder.database) < 4_000_000

    out = federation.path / "released"
    asked = ("release", files.run.name, out, "--dir", federation.folder.path)
    unattacked = federation.command(*asked)
    assert (unattacked.returncode, out.exists()) == (3, False), unattacked.stdout
    policy = federation.path / "policy.toml"
    policy.write_text(policy_text(LENIENT))
    answered = ("--policy", policy, "--accept-inconclusive", "A. Board: nothing here is real")
    done = federation.command(*asked, *answered)
    assert done.returncode == 0, done.stderr
    assert verify_release(out).privacy == "dp"
    for command in ("runs", "watch"):
        arguments = (files.run.name, "--once") if command == "watch" else ()
        shown = federation.command(command, *arguments, "--dir", federation.folder.path)
        assert shown.returncode == 0, shown.stderr
        assert "finished" in shown.stdout


def test_up_ends_with_a_signal_and_everything_with_it(federation: Federation) -> None:
    superlink = federation.superlink()
    up = federation.processes["up"]
    up.send_signal(signal.SIGTERM)
    assert up.wait(30) == 0, federation.logs()
    assert not Path(f"/proc/{superlink}").exists()


def _asked(site: TestSite, number: int) -> bool:
    return any(isinstance(asked, Request) and asked.round == number for asked in site.asked)


def _reached(federation: Federation) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", federation.proxy_port)) == 0
