"""Whether another OS user is really kept from what it must not read: asked of the kernel, not of modes."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from client.node_folder import Account
from medgan_core.errors import MedGANError, RefusedError

_ASK = 'for path; do if [ -r "$path" ] || [ -w "$path" ]; then echo yes; else echo no; fi; done'


def check_apart(account: Account, paths: Sequence[Path]) -> None:
    """Raise RefusedError, with the names, where the account may read or write any of these. Needs root."""
    if open_to := reachable_by(account, paths):
        names = ", ".join(path.name for path in open_to)
        raise RefusedError(
            f"the node's user may read {names}: take its rights away (chmod 700 for folders, 600 for files) "
            "before the node starts"
        )


def reachable_by(account: Account, paths: Sequence[Path]) -> list[Path]:
    """Those of the paths that the account may read or write. Needs root."""
    try:
        asked = subprocess.run(
            ["/bin/sh", "-c", _ASK, "sh", *(str(path.absolute()) for path in paths)],
            capture_output=True,
            text=True,
            env={},
            cwd="/",
            user=account.user,
            group=account.groups[0],
            extra_groups=account.groups[1:],
        )
    except OSError as error:
        raise MedGANError(
            f"what the node's user may read could not be found out: {error.strerror}; run as root"
        ) from None
    answers = asked.stdout.split()
    if len(answers) != len(paths):
        raise MedGANError("what the node's user may read could not be found out: /bin/sh did not answer")
    return [path for path, answer in zip(paths, answers, strict=True) if answer == "yes"]
