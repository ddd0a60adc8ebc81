"""Who a site is in secure sums: its own long-term key, and the keys of the others that its person has pinned.

The key is an Ed25519 private key in a file of mode 0600 that never leaves the site. Pinning is a person's act
at the site; whoever runs a worker hands the pinned keys in, from the site's own policy.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from medgan_core.disk import fsync_folder
from medgan_core.errors import IntegrityError, RefusedError
from medgan_core.privacy import sum_keys
from medgan_core.privacy.sum_keys import KEY_BYTES
from medgan_core.privacy.sum_rules import SumRules
from medgan_core.privacy.sum_session import Cohort


@dataclass(frozen=True)
class Membership:
    """A site's part in a cohort: `signing_key` is its own private key, `pinned` everybody's public ones."""

    name: str
    signing_key: bytes = field(repr=False)
    pinned: Cohort

    def check(self, rules: SumRules) -> None:
        """Refuse pinned keys that cannot be: too few, one twice, or another one for this site itself."""
        self.pinned.check(self.pinned, self.name, rules)
        if self.pinned.keys[self.name] != sum_keys.verify_key_of(self.signing_key):
            raise RefusedError(f"secure sum: the key pinned for site {self.name} is not its own")


def own_key(path: Path) -> bytes:
    """The site's long-term private key; made at the first call. IntegrityError where the file is damaged."""
    try:
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return _read(path)
        with os.fdopen(handle, "wb") as file:
            file.write(sum_keys.new_secret())
            file.flush()
            os.fsync(file.fileno())
        fsync_folder(path.parent)
    except OSError as error:
        raise IntegrityError(f"{path.name}: {error.strerror}; check the folder of the key") from None
    return _read(path)


def _read(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise IntegrityError(
            f"{path.name} is damaged: bring back a copy, or remove it and have the new key pinned by all"
        )
    return key
