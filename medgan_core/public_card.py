"""A hospital's public card: its name and public keys, a file that people hand to the coordinator.

Whoever gets one compares its fingerprint with the hospital by phone before the keys are enrolled.
"""

import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from medgan_core.errors import InputError
from medgan_core.privacy.sum_keys import KEY_BYTES
from medgan_core.record import read_json, write_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""What sites may be called: their names are those of folders at the coordinator."""


@dataclass(frozen=True)
class PublicCard:
    """`node_key` is an OpenSSH line (ECDSA P-384, without comment), `verify_key` Ed25519 in hex.

    Raises InputError for a name or a key that cannot be.
    """

    name: str
    node_key: str
    verify_key: str

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise InputError(
                f"site name {self.name[:80]!r}: expected letters, digits and ._- (64 at most), "
                "a letter or digit first"
            )
        if not _is_node_key(self.node_key):
            raise InputError(f"card of {self.name}: node_key is no ECDSA P-384 key in OpenSSH's form")
        if not re.fullmatch(f"[0-9a-f]{{{2 * KEY_BYTES}}}", self.verify_key):
            raise InputError(f"card of {self.name}: verify_key is no Ed25519 key, {2 * KEY_BYTES} hex digits")

    def fingerprint(self) -> str:
        """SHA-256 over both keys as OpenSSH writes fingerprints: what people compare."""
        digest = sha256(f"medgan card\n{self.node_key}\n{self.verify_key}".encode()).digest()
        return f"SHA256:{b64encode(digest).decode().rstrip('=')}"

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON; the inverse of `from_json`."""
        return {
            "name": self.name,
            "node_key": self.node_key,
            "verify_key": self.verify_key,
            "fingerprint": self.fingerprint(),
        }

    @classmethod
    def from_json(cls, body: Any) -> Self:
        """Read what `to_json` wrote. InputError for anything else, or another fingerprint."""
        try:
            card = cls(str(body["name"]), str(body["node_key"]), str(body["verify_key"]))
            told = body["fingerprint"]
        except (KeyError, TypeError) as error:
            raise InputError(f"no public card of a site: {error} is missing") from None
        if told != card.fingerprint():
            raise InputError(
                f"card of {card.name}: its fingerprint is of other keys; ask the site for it again"
            )
        return card

    def write(self, path: Path) -> None:
        """Write the card, in place of an older one."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a card. InputError where the file is none, IntegrityError where it cannot be read."""
        return cls.from_json(read_json(path))


def fingerprint_of(verify_key: str) -> str:
    """A short public name of an Ed25519 key in hex, for people to compare under secure sums."""
    return f"SHA256:{b64encode(sha256(bytes.fromhex(verify_key)).digest()).decode().rstrip('=')}"


def _is_node_key(line: str) -> bool:
    if len(line.split(" ")) != 2 or not line.isprintable():
        return False
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm):
        return False
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP384R1)
