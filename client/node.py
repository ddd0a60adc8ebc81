"""The node: Flower's SuperNode and the superexec that starts its ClientApp, as commands for a supervisor.

The two speak over loopback with a secret that is new at every start, so no other user of the machine can take
the coordinator's messages from them. Both run in an environment of their own making, from nothing else.
"""

import logging
import os
import re
import secrets
import socket
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from medgan_core.errors import InputError
from medgan_core.supervision import Backoff, Command

_SECRET_BYTES = 32
_FLAGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",  # on loopback; Flower's own second would be in every round
}
_CALM = Backoff(first=1.0, most=15.0, healthy=60.0)
_log = logging.getLogger("medgan.node")


@dataclass(frozen=True)
class NodeSettings:
    """What a node has to know. `superlink` is host:port; `home` is its own folder, for all that it writes.

    `socket` is where the trainer listens; `key` the node's private key, which its user can read; `proxy` the
    URL of an outbound HTTP proxy or ""; `deadline` the seconds within which the trainer has to answer.
    """

    site: str
    superlink: str
    root_certificates: Path
    key: Path
    socket: Path
    home: Path
    proxy: str = ""
    deadline: float = 24 * 3600.0


def node_commands(settings: NodeSettings) -> tuple[Command, Command]:
    """SuperNode and superexec, to be kept alive together; what they read is written to the node's home.

    Raises InputError where a certificate or key is missing, or the home cannot be written to.
    """
    _check(settings)
    try:
        _write_files(settings)
    except OSError as error:
        raise InputError(
            f"the node's home {settings.home.name}: {error.strerror}; give it to the node's user"
        ) from None
    port = free_port()
    environment = node_environment(settings)

    def made(name: str, argv: list[str], told: Callable[[str], bool] | None = None) -> Command:
        log = settings.home / "logs" / f"{name}.log"
        return Command(name, lambda: argv, environment, log, settings.home, backoff=_CALM, told=told)

    node = made("node", supernode_argv(settings, port), _explain)
    return node, made("superexec", superexec_argv(settings, port))


def supernode_argv(settings: NodeSettings, port: int) -> list[str]:
    """The SuperNode's command line; `port` is that of its API on loopback."""
    return [
        *(sys.executable, "-P", "-m", "client.supernode"),
        *("--superlink", settings.superlink),
        *("--root-certificates", str(settings.root_certificates)),
        *("--auth-supernode-private-key", str(settings.key)),
        *("--node-config", str(_config_of(settings))),
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", str(_secret_of(settings))),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]


def superexec_argv(settings: NodeSettings, port: int) -> list[str]:
    """The command line of what starts a ClientApp for each message."""
    return [
        str(_scripts() / "flower-superexec"),
        *("--insecure", "--runtime-api-address", f"127.0.0.1:{port}"),  # loopback, with the secret
        *("--superexec-auth-secret-file", str(_secret_of(settings))),
    ]


def node_environment(settings: NodeSettings) -> dict[str, str]:
    """The whole environment of the node's processes: nothing of the caller's is in it."""
    import client

    return {
        "PATH": os.pathsep.join([str(_scripts()), "/usr/local/bin", "/usr/bin", "/bin"]),
        "PYTHONPATH": str(Path(client.__file__).resolve().parents[1]),  # the node runs this very code
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "HOME": str(settings.home),
        "FLWR_HOME": str(settings.home / "flwr"),
        **_FLAGS,
        **_proxies(settings.proxy),
    }


def free_port() -> int:
    """A port on loopback that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _proxies(proxy: str) -> dict[str, str]:
    if not proxy:
        return {}
    near = "127.0.0.1,localhost"
    return {"HTTPS_PROXY": proxy, "https_proxy": proxy, "NO_PROXY": near, "no_proxy": near}


def _scripts() -> Path:
    return Path(sysconfig.get_path("scripts"))


def _config_of(settings: NodeSettings) -> Path:
    return settings.home / "node.toml"


def _secret_of(settings: NodeSettings) -> Path:
    return settings.home / "superexec.secret"


def _check(settings: NodeSettings) -> None:
    if not re.fullmatch(r"\S+:\d+", settings.superlink):
        raise InputError(f"coordinator address = {settings.superlink!r}: expected host:port; mend site.toml")
    for what, path in (("CA certificate", settings.root_certificates), ("key", settings.key)):
        if not path.is_file():
            raise InputError(f"the node's {what} {path.name} is missing: expected a file named in site.toml")


def _write_files(settings: NodeSettings) -> None:
    facts = {"site": settings.site, "socket": str(settings.socket), "deadline": settings.deadline}
    for folder in (settings.home, settings.home / "flwr"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(_config_of(settings), tomli_w.dumps(facts))
    _write(_secret_of(settings), secrets.token_hex(_SECRET_BYTES))


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


_KNOWN = (
    (
        re.compile(r"\[code: 2004\]"),
        "the coordinator does not let this node in: its card is not enrolled there, so have it enrolled; or "
        "its last process is still counted, for a minute at most",
    ),
    (
        re.compile(r"certificate verify failed", re.IGNORECASE),
        "the coordinator's certificate is not of the CA that site.toml names: ask for its ca.crt",
    ),
    (
        re.compile(r"\b401\b|unauthori[sz]ed", re.IGNORECASE),
        "the coordinator does not know this node's key: have public-card.json enrolled there",
    ),
    (re.compile(r"Connection attempt failed"), "the coordinator does not answer: trying again"),
)


def _explain(line: str) -> bool:
    """Say in plain words what Flower says in its own; the node goes on, or ends, by itself."""
    for pattern, words in _KNOWN:
        if pattern.search(line):
            _log.warning("node: %s", words)
            break
    return False
