"""Bytes on the disk, in the clear or encrypted: one JSON line that says which, then the body.

Encrypted is AES-256-GCM in chunks: the key by HKDF-SHA256 from the site's key and a salt of the file; the
nonce is the chunk's number; the first line, the number and whether it is the last are authenticated.
"""

import json
import secrets
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_CHUNK, _TAG, _SALT = 1 << 20, 16, 16
_LONGEST_LINE = 1 << 8


def new_salt() -> bytes:
    """For one file."""
    return secrets.token_bytes(_SALT)


def encrypted(body: memoryview, line: bytes, key: bytes, salt: bytes) -> Iterator[bytes]:
    """The chunks of a body after its first line."""
    cipher = AESGCM(_derived(key, salt))
    for number, start in enumerate(range(0, len(body), _CHUNK)):
        bound = _bound(line, number, last=start + _CHUNK >= len(body))
        yield cipher.encrypt(number.to_bytes(12, "big"), body[start : start + _CHUNK], bound)


def decrypted(body: bytes, line: bytes, key: bytes, salt: bytes) -> bytearray:
    """Back from `encrypted`. InvalidTag for another key or line, and for a body that was changed or cut."""
    cipher, whole = AESGCM(_derived(key, salt)), bytearray()
    steps = range(0, len(body), _CHUNK + _TAG)
    for number, start in enumerate(steps):
        chunk = memoryview(body)[start : start + _CHUNK + _TAG]
        bound = _bound(line, number, last=number == len(steps) - 1)
        whole += cipher.decrypt(number.to_bytes(12, "big"), chunk, bound)
    return whole


def sealed(body: bytes, key: bytes | None) -> bytes:
    """A whole small file: encrypted where there is a key."""
    salt = new_salt()
    line = json.dumps({"encrypted": key is not None, "salt": salt.hex()}).encode() + b"\n"
    return line + (body if key is None else b"".join(encrypted(memoryview(body), line, key, salt)))


def unsealed(content: bytes, key: bytes | None) -> bytes:
    """Back from `sealed`. ValueError for a damaged file, another key, and one that is in the clear."""
    try:
        end = content.index(b"\n", 0, _LONGEST_LINE) + 1
        line, body = content[:end], content[end:]
        first = json.loads(line)
        if first["encrypted"] != (key is not None) or not body:
            raise ValueError("encrypted in another way")
        return body if key is None else bytes(decrypted(body, line, key, bytes.fromhex(first["salt"])))
    except (KeyError, TypeError, InvalidTag):
        raise ValueError("damaged, or of another key") from None


def _derived(key: bytes, salt: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, b"medgan image cache").derive(key)


def _bound(line: bytes, number: int, *, last: bool) -> bytes:
    return line + number.to_bytes(8, "big") + (b"\1" if last else b"\0")
