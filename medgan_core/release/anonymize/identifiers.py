"""Keyed pseudonyms: the same key gives the same name, and nobody finds the patient without it.

Everything is HMAC-SHA256 under a secret of 32 bytes, each use with a word of its own in front.
"""

import base64
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from medgan_core.disk import fsync_folder
from medgan_core.errors import InputError, RefusedError

_LENGTH = 32


@dataclass(frozen=True)
class PseudonymKey:
    """32 random bytes that never leave the hospital: who has them can tell whose a pseudonym is."""

    secret: bytes = field(repr=False)

    def digest(self, use: str, *parts: str) -> bytes:
        """32 bytes of HMAC-SHA256 over a use and its parts; distinct parts never run together."""
        told = [part.encode("utf-8", "surrogatepass") for part in (use, *parts)]
        return hmac.new(self.secret, b"".join(len(t).to_bytes(8, "big") + t for t in told), sha256).digest()

    def pseudonym(self, issuer: str, patient: str) -> str:
        """`ANON-` and 16 letters and digits (80 bits) for a patient of an issuer of patient IDs."""
        return "ANON-" + base64.b32encode(self.digest("patient", issuer, patient)[:10]).decode()

    def uid(self, uid: str) -> str:
        """`2.25.<int>` of 128 bits, PS3.5 B.2, for a UID; the same wherever the UID is mentioned."""
        return f"2.25.{int.from_bytes(self.digest('uid', uid)[:16], 'big')}"

    def number(self, use: str, *parts: str) -> int:
        """A whole number in [0, 2**64) for a use and its parts."""
        return int.from_bytes(self.digest(use, *parts)[:8], "big")


def new_key(path: Path) -> PseudonymKey:
    """Write a fresh key with mode 0600. InputError where there is a file already: none is overwritten."""
    key = PseudonymKey(secrets.token_bytes(_LENGTH))
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key.secret.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fsync_folder(path.parent)
    except FileExistsError:
        raise InputError(
            f"--new-key {path.name} exists already: no key is overwritten; choose another name"
        ) from None
    except OSError as error:
        raise InputError(f"--new-key {path.name}: {error.strerror}; choose another place") from error
    return key


def load_key(path: Path) -> PseudonymKey:
    """Read a key. RefusedError where others than its owner may read it, InputError where it is none."""
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise InputError(f"--key {path.name}: expected a file made by --new-key")
            if facts.st_mode & 0o077:
                raise RefusedError(
                    f"--key {path.name} has mode {facts.st_mode & 0o777:03o}: others may read it, tell the "
                    f"patients; chmod 600 {path.name}, or make another with --new-key"
                )
            text = file.read(4 * _LENGTH)
    except OSError as error:
        raise InputError(f"--key {path.name}: {error.strerror}; make one with --new-key") from error
    try:
        secret = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != _LENGTH:
        raise InputError(f"--key {path.name}: expected a file made by --new-key")
    return PseudonymKey(secret)
