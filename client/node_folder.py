"""What a site's trainer hands to its node, who may be another user: the folder node/ of the site.

It holds the node's facts, a copy of its key and of the coordinator's CA certificate. The trainer's user owns
it and the node's user may read it; nothing in it is secret from the node.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.node import NodeSettings
from medgan_core.errors import InputError

_FACTS, _KEY, _CA = "node.json", "key", "ca.crt"
_FOLDER_MODE, _FILE_MODE = 0o750, 0o640


@dataclass(frozen=True)
class Account:
    """An OS user as numbers: the user's id, and the ids of its groups with the main one first."""

    user: int
    groups: tuple[int, ...]

    @classmethod
    def named(cls, name: str) -> "Account":
        """The user of this name. Raises InputError where there is none, or where it is root."""
        import pwd

        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise InputError(f"node user {name}: there is no such user on this machine; make one") from None
        if entry.pw_uid == 0:
            raise InputError(f"node user {name}: expected a user without rights over the data, and not root")
        others = (group for group in os.getgrouplist(name, entry.pw_gid) if group != entry.pw_gid)
        return cls(entry.pw_uid, (entry.pw_gid, *others))


@dataclass(frozen=True)
class Handover:
    """What is handed over. `root_certificates` and `key` are read where they are and copied.

    `metrics_port` is that of the node's own page, 0 for none.
    """

    site: str
    superlink: str
    root_certificates: Path
    key: Path
    socket: Path
    proxy: str = ""
    metrics_port: int = 0


def hand_over(folder: Path, handover: Handover, account: Account | None) -> None:
    """Write the node's folder, readable for its user's main group; without `account` for this user alone.

    Raises InputError where a file to be copied is missing, or this user is not in that group.
    """
    group = account.groups[0] if account else os.getgid()
    facts = {
        "site": handover.site,
        "superlink": handover.superlink,
        "socket": str(handover.socket.absolute()),
        "proxy": handover.proxy,
        "metrics_port": handover.metrics_port,
    }
    files = {
        _FACTS: json.dumps(facts, indent=1).encode(),
        _KEY: _read("node's key", handover.key),
        _CA: _read("coordinator's CA certificate", handover.root_certificates),
    }
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chown(folder, -1, group)
        folder.chmod(_FOLDER_MODE if account else 0o700)
        for name, content in files.items():
            _write(folder / name, content, group, _FILE_MODE if account else 0o600)
    except OSError as error:
        raise InputError(
            f"{folder.name} cannot be handed to the node's user: {error.strerror}; run as root, or add this "
            "user to the group of the node's user"
        ) from None


def read_handover(folder: Path, home: Path) -> tuple[NodeSettings, int]:
    """What the node needs, and the port of its metrics (0 for none), as its user.

    Raises InputError where the trainer has not handed it over yet.
    """
    try:
        facts: Mapping[str, Any] = json.loads((folder / _FACTS).read_bytes())
    except (OSError, ValueError):
        raise InputError(
            "the node was handed nothing that this user may read: start the trainer first"
        ) from None
    settings = NodeSettings(
        str(facts["site"]),
        str(facts["superlink"]),
        folder / _CA,
        folder / _KEY,
        Path(facts["socket"]),
        home,
        str(facts["proxy"]),
    )
    return settings, int(facts["metrics_port"])


def make_home(home: Path, account: Account | None) -> None:
    """Make the node's home, its user's own. One that is there already is left as it is.

    What the node's user could have put there is never followed: this may run as root.
    """
    try:
        home.mkdir(mode=0o700)
    except FileExistsError:
        if home.is_symlink() or not home.is_dir():
            raise InputError(f"{home.name} is no folder: move it away") from None
        return
    if account is not None:
        os.chown(home, account.user, account.groups[0], follow_symlinks=False)


def _read(what: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"the {what} {path.name}: {error.strerror}; site.toml says where it lies") from None


def _write(path: Path, content: bytes, group: int, mode: int) -> None:
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        os.fchown(file.fileno(), -1, group)
        os.fchmod(file.fileno(), mode)
    part.replace(path)
