"""Whether another OS user is really kept from what it must not read: asked of the kernel, not of modes."""

import os
from collections.abc import Sequence
from pathlib import Path

from client.node_folder import Account
from medgan_core.errors import MedGANError, RefusedError


def check_apart(account: Account, paths: Sequence[Path]) -> None:
    """Raise RefusedError, with the names, where the account may read or write any of these. Needs root."""
    if open_to := reachable_by(account, paths):
        names = ", ".join(path.name for path in open_to)
        raise RefusedError(
            f"the node's user may read {names}: take its rights away (chmod 700 folders, 600 files) before "
            "the node starts"
        )


def reachable_by(account: Account, paths: Sequence[Path]) -> list[Path]:
    """Those of the paths that the account may read or write."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _tell(writer, account, paths)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        answer = told.read()
    os.waitpid(pid, 0)
    if len(answer) != len(paths):
        raise MedGANError("what the node's user may read could not be found out: run as root")
    return [path for path, yes in zip(paths, answer, strict=True) if yes]


def _tell(writer: int, account: Account, paths: Sequence[Path]) -> None:
    """In a child that is nobody but the account: a byte for each path. Never returns."""
    try:
        os.setgroups(account.groups)
        os.setgid(account.groups[0])
        os.setuid(account.user)
        os.write(writer, bytes(os.access(path, os.R_OK) or os.access(path, os.W_OK) for path in paths))
    finally:
        os._exit(0)
