"""The cryptography of a secure sum, one short function for each use. All of it is the work of others.

X25519 and HKDF-SHA256 agree on keys, ChaCha20 makes masks, ChaCha20-Poly1305 seals shares, Ed25519 signs
(package `cryptography`); Shamir's scheme in GF(2^128) shares secrets (package `pycryptodome`).
"""

import os
from collections.abc import Mapping

import numpy as np
from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

Words = NDArray[np.uint64]

KEY_BYTES = 32
SIGNATURE_BYTES = 64
_BLOCK = 16  # of Shamir's scheme
_ONE_USE = bytes(12)  # a nonce for keys that seal one message only


def new_secret() -> bytes:
    """32 bytes from the operating system."""
    return os.urandom(KEY_BYTES)


def public_of(private: bytes) -> bytes:
    """The X25519 public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed_key(private: bytes, public: bytes, purpose: bytes) -> bytes:
    """The 32 bytes that only these two key pairs can derive. Raises ValueError for a key of small order."""
    shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=purpose).derive(shared)


def mask(seed: bytes, count: int) -> Words:
    """A keystream as words, uint64 [count]: uniform to whoever does not know the seed."""
    encryptor = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * count)), dtype="<u8").astype(np.uint64)


def seal(key: bytes, message: bytes, context: bytes) -> bytes:
    """Encrypt under a key of one use; `context` is bound in, not hidden."""
    return ChaCha20Poly1305(key).encrypt(_ONE_USE, message, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes | None:
    """The message, None where key, content or context are others."""
    try:
        return ChaCha20Poly1305(key).decrypt(_ONE_USE, sealed, context)
    except (InvalidTag, ValueError):
        return None


def verify_key_of(signing_key: bytes) -> bytes:
    """The Ed25519 public key of a private one."""
    return Ed25519PrivateKey.from_private_bytes(signing_key).public_key().public_bytes_raw()


def sign(signing_key: bytes, message: bytes) -> bytes:
    """An Ed25519 signature, 64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(signing_key).sign(message)


def signed_by(verify_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether this key signed this message."""
    try:
        Ed25519PublicKey.from_public_bytes(verify_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def split(secret: bytes, threshold: int, count: int) -> dict[int, bytes]:
    """Shares 1 … `count` of 32 secret bytes; any `threshold` of them give it back, fewer tell nothing."""
    halves = (secret[:_BLOCK], secret[_BLOCK:])
    shared = [dict(Shamir.split(threshold, count, half, ssss=False)) for half in halves]
    return {index: shared[0][index] + shared[1][index] for index in range(1, count + 1)}


def combine(shares: Mapping[int, bytes]) -> bytes:
    """The secret of `threshold` shares; other bytes where a share is another or one is missing."""
    halves = (slice(None, _BLOCK), slice(_BLOCK, None))
    return b"".join(
        Shamir.combine([(index, share[half]) for index, share in shares.items()], ssss=False)
        for half in halves
    )
