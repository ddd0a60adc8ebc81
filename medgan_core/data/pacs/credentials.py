"""What opens a server, read from a file that its owner alone may read, and shown nowhere."""

import stat
from dataclasses import dataclass, field
from pathlib import Path

from medgan_core.errors import InputError

_BEARER = "bearer "


@dataclass(frozen=True)
class Credentials:
    """A user with a password, or a bearer token; none of them with both blank."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.user or self.token)

    @classmethod
    def read(cls, path: Path) -> "Credentials":
        """Of a file of mode 0600 with one line, `user:password` or `Bearer TOKEN`. InputError for others."""
        try:
            mode, lines = stat.S_IMODE(path.stat().st_mode), path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = (isinstance(error, OSError) and error.strerror) or "no text"
            raise InputError(f"credentials {path.name}: {why}; expected a file with user:password") from None
        if mode & 0o077:
            raise InputError(f"credentials {path.name} has mode {mode:o}, others may use it: chmod 600 it")
        line = lines[0].strip() if len(lines) == 1 else ""
        if line.casefold().startswith(_BEARER):
            return cls(token=line[len(_BEARER) :].strip())
        user, separator, password = line.partition(":")
        if not separator or not user:
            raise InputError(
                f"credentials {path.name}: expected one line, user:password or Bearer TOKEN (it is not shown)"
            )
        return cls(user, password)


NOBODY = Credentials()
"""For a server that asks for none."""
