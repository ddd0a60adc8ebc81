"""Flower's processes and commands: their arguments and environment, and nothing else of them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medgan_core.errors import MedGANError
from medgan_core.record import write_atomically
from server.folder import VARIABLE, CoordinatorFolder

CONNECTION = "coordinator"
_COMMAND_SECONDS = 60.0
_ENTRIES = {
    "superlink": "from server.flower_state import settle; settle(); "
    "from flwr.superlink.cli import flower_superlink as main",
    "superexec": "from flwr.supercore.cli import flower_superexec as main",
    "flwr": "from flwr.cli.app import app as main",
}


class FlowerError(MedGANError):
    """A command of Flower that failed; `said` is what it told."""

    def __init__(self, command: str, said: str) -> None:
        super().__init__(f"flwr {command}: {said}")
        self.said = said


def environment(folder: CoordinatorFolder) -> dict[str, str]:
    """The environment of Flower's processes: no telemetry, no look at the internet, home in the folder."""
    scripts = str(Path(sys.executable).parent)  # superexec starts `flwr-serverapp` by its name
    return dict(os.environ) | {
        "FLWR_HOME": str(folder.flower),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": os.pathsep.join((scripts, os.environ.get("PATH", os.defpath))),
        VARIABLE: str(folder.path),
    }


def superlink_command(folder: CoordinatorFolder) -> list[str]:
    """SuperLink on loopback with TLS, node authentication, its state on disk and processes apart."""
    return [
        *_started("superlink"),
        *("--ssl-ca-certfile", str(folder.tls / "ca.crt")),
        *("--ssl-certfile", str(folder.tls / "server.pem")),
        *("--ssl-keyfile", str(folder.tls / "server.key")),
        "--enable-supernode-auth",
        *("--host", "127.0.0.1", "--port", str(folder.settings().superlink_port)),
        *("--database", str(folder.database)),
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", str(folder.secret)),
        "--disable-runtime-dependency-installation",
    ]


def superexec_command(folder: CoordinatorFolder) -> list[str]:
    """The process that starts ServerApps, known to SuperLink by the secret."""
    return [
        *_started("superexec"),
        *("--runtime-api-address", f"127.0.0.1:{folder.settings().superlink_port}"),
        *("--root-certificates", str(folder.tls / "ca.crt")),
        *("--superexec-auth-secret-file", str(folder.secret)),
    ]


def write_configuration(folder: CoordinatorFolder) -> None:
    """Flower's config.toml: one connection, on loopback."""
    body = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "127.0.0.1:{folder.settings().superlink_port}"\n'
        f'root-certificates = "{folder.tls / "ca.crt"}"\n'
    )
    write_atomically(folder.flower / "config.toml", body.encode())


def listens(folder: CoordinatorFolder) -> bool:
    """Whether anything listens on SuperLink's port."""
    try:
        socket.create_connection(("127.0.0.1", folder.settings().superlink_port), timeout=1).close()
    except OSError:
        return False
    return True


class Flower:
    """Flower's command line on a coordinator's folder. Every call raises FlowerError where it fails."""

    def __init__(self, folder: CoordinatorFolder) -> None:
        self._folder = folder
        self._environment = environment(folder)

    def start_run(self, run: str) -> str:
        """Start the components on a run; Flower's number of it."""
        app = str(self._folder.app)
        told = self._call("run", app, CONNECTION, "--run-config", f'run="{run}"')
        return str(told["run-id"])

    def stop_run(self, number: str) -> None:
        """End a run of Flower's."""
        self._call("stop", number, CONNECTION)

    def register(self, key: Path, name: str) -> str:
        """Let a node in by its public key; Flower's number of it."""
        return str(self._call("supernode", "register", str(key), CONNECTION, "--name", name)["node-id"])

    def unregister(self, node: str) -> None:
        """Let a node in no longer."""
        self._call("supernode", "unregister", node, CONNECTION)

    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """Flower's list of nodes."""
        return list(self._call("supernode", "list", CONNECTION).get("nodes", []))

    def _call(self, *arguments: str) -> dict[str, Any]:
        command = [*_started("flwr"), *arguments, "--format", "json"]
        named = " ".join(arguments[: 2 if arguments[0] == "supernode" else 1])
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                env=self._environment,
                timeout=_COMMAND_SECONDS,
                cwd=self._folder.path,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FlowerError(named, f"no answer within {_COMMAND_SECONDS:g} s") from error
        try:
            told = json.loads(done.stdout)
        except ValueError:
            told = {}
        if done.returncode or not told.get("success", False):
            said = str(told.get("error-message") or done.stderr or done.stdout or "failed").strip()
            raise FlowerError(named, " ".join(said.split())[-300:])
        return dict(told)


def _started(entry: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; {_ENTRIES[entry]}; sys.exit(main())"]
