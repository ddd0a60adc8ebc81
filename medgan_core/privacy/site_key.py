"""The random key of a ledger, under which it knows patients without their names.

It lies beside the ledger as `<ledger>.key`. While a ledger is being created it is called `<ledger>.key.new`;
it gets its name after the first entry is on disk. So a key without a ledger always means that a ledger was
lost, and never that its creation was cut short.
"""

import os
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from medgan_core.disk import fsync_folder
from medgan_core.errors import LedgerError
from medgan_core.patients import Pseudonym
from medgan_core.privacy.chain import file_errors

_LENGTH = 32


@dataclass(frozen=True)
class SiteKey:
    """32 random bytes that never leave the site."""

    secret: bytes = field(repr=False)

    def pseudonym(self, patient: str) -> Pseudonym:
        """HMAC-SHA256 of a patient key, in hex; a pseudonym stays what it is."""
        return Pseudonym.of(self.secret, patient)

    def fingerprint(self) -> str:
        """A public value by which a ledger knows its own key again."""
        return sha256(b"medgan ledger key\n" + self.secret).hexdigest()


def propose_key(ledger: Path) -> SiteKey:
    """A fresh key, on disk as `<ledger>.key.new` with mode 0600. LedgerError where a ledger was lost."""
    settled, proposed = _paths(ledger)
    if settled.exists():
        raise LedgerError(
            f"{ledger.name} is missing or empty, but {settled.name} shows that there was a ledger: bring "
            "back the newest copy of it; what was spent on these patients is not known without it"
        )
    key = SiteKey(secrets.token_bytes(_LENGTH))
    with file_errors(settled.name):
        handle = os.open(proposed, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key.secret)
            file.flush()
            os.fsync(file.fileno())
        fsync_folder(ledger.parent)
    return key


def load_key(ledger: Path, fingerprint: str) -> SiteKey:
    """The key of an existing ledger; settles a proposed one. LedgerError where it is missing or another."""
    settled, proposed = _paths(ledger)
    with file_errors(settled.name):
        for path in (settled, proposed, settled):  # again: another process may settle it in between
            key = _read(path)
            if key is None:
                continue
            if key.fingerprint() == fingerprint:
                if path == proposed:
                    _settle(proposed, settled)
                return key
    raise LedgerError(
        f"{settled.name} is missing or is not the key of {ledger.name}: bring it back from the same backup; "
        "without it patients cannot be found again and their spending would be forgotten"
    )


def _settle(proposed: Path, settled: Path) -> None:
    try:
        proposed.replace(settled)
    except FileNotFoundError:  # another process was faster
        return
    fsync_folder(settled.parent)


def _read(path: Path) -> SiteKey | None:
    try:
        return SiteKey(path.read_bytes())
    except FileNotFoundError:
        return None


def _paths(ledger: Path) -> tuple[Path, Path]:
    """Settled and proposed."""
    return ledger.with_name(f"{ledger.name}.key"), ledger.with_name(f"{ledger.name}.key.new")
