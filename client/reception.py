"""The socket on which a trainer listens: who may reach it, and that no two trainers share one.

Its folder has mode 0750 and the socket 0660, both with the group of the node's user: nobody else comes in.
A lock beside it dies with its process, so a socket that a killed trainer left is told from a live one.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medgan_core.errors import ConfigError, InputError

_LONGEST_PATH = 107
_FOLDER_MODE = 0o750
_SOCKET_MODE = 0o660


@contextmanager
def reserved(socket: Path, group: int | None) -> Iterator[None]:
    """Hold the place of a socket, with its folder made and nothing in the way.

    Raises InputError where another trainer answers there, or where something lies that is no socket.
    """
    check_place(socket)
    _make_folder(socket.parent, group)
    descriptor = os.open(_lock_of(socket), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor)
        _clear(socket)
        yield
        socket.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def check_place(socket: Path) -> None:
    """Raise ConfigError where the path is longer than the operating system allows for sockets."""
    if len(os.fsencode(socket)) > _LONGEST_PATH:
        raise ConfigError(
            "socket", str(socket), f"a path of at most {_LONGEST_PATH} bytes: move the site's folder"
        )


def let_in(socket: Path, group: int | None) -> None:
    """Let the group, and nobody else, connect to a socket that was just made."""
    if group is not None:
        os.chown(socket, -1, group)
    socket.chmod(_SOCKET_MODE)


def _make_folder(folder: Path, group: int | None) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if group is not None:
        os.chown(folder, -1, group)
    folder.chmod(_FOLDER_MODE)


def _lock_of(socket: Path) -> Path:
    return socket.with_name(f".{socket.name}.lock")


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            "another trainer of this site is running: stop it, or leave it to its work"
        ) from None


def _clear(socket: Path) -> None:
    """Take away what a killed trainer left; it holds no lock, so nobody answers there."""
    try:
        mode = socket.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise InputError(f"{socket.name} in the socket's folder is no socket: move it away")
    socket.unlink()
