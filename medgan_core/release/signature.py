"""The coordinator's signature over a release: manifest.sig, beside the manifest.

It repeats the hash of every file, so that whoever makes the manifest anew over changed files is told which
they are. Ed25519, as the sites' signatures of receipts; each kind of message has a first line of its own.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from medgan_core.errors import InputError, ReleaseError
from medgan_core.privacy.sum_keys import KEY_BYTES, sign, signed_by, verify_key_of
from medgan_core.record import write_json
from medgan_core.release.files import MANIFEST, SIGNATURE


class ManifestSignature(BaseModel):
    """SHA-256 by file, the manifest's too, and `signature` of them by `key`, all in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    files: dict[str, str]
    key: str
    signature: str = ""

    def message(self) -> bytes:
        """What the coordinator signs."""
        return signed_message("manifest", self)

    def valid(self) -> bool:
        """Whether it is a signature of `key`, whosever that is."""
        return signed_by(from_hex(self.key), from_hex(self.signature), self.message())


def signed_message(kind: str, told: BaseModel) -> bytes:
    """The bytes that are signed of a value: a line with its kind, and all its fields but `signature`."""
    body = told.model_dump(mode="json", exclude={"signature"})
    return f"medgan {kind}\n{json.dumps(body, sort_keys=True)}".encode()


def read_signing_key(path: Path) -> bytes:
    """A private key that `medgan-server init` or a simulation made. InputError where the file is none."""
    try:
        key = path.read_bytes()
    except OSError as error:
        raise InputError(f"--key {path.name} cannot be read: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise InputError(f"--key {path.name}: expected a coordinator's signing key, {KEY_BYTES} bytes")
    return key


def sign_manifest(folder: Path, signing_key: bytes) -> None:
    """Write manifest.sig for a folder whose manifest is written."""
    bare = ManifestSignature(files=_hashes(folder), key=verify_key_of(signing_key).hex())
    signed = bare.model_copy(update={"signature": sign(signing_key, bare.message()).hex()})
    write_json(folder / SIGNATURE, signed.model_dump(mode="json"))


def read_signature(folder: Path) -> ManifestSignature | None:
    """What manifest.sig holds after a check of it; None where the release is not signed.

    Raises ReleaseError where it is no signature, or of another content: naming the files that were changed.
    """
    try:
        told = ManifestSignature.model_validate_json((folder / SIGNATURE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, RecursionError) as error:
        raise ReleaseError(f"{SIGNATURE} cannot be read: {error.__class__.__name__}") from error
    if not told.valid():
        raise ReleaseError(f"{SIGNATURE} was changed: it holds no signature by the key that it names")
    if changed := _changed(told.files, _hashes(folder)):
        raise ReleaseError(
            f"{', '.join(changed)}: not what the coordinator signed; get the release again from its source"
        )
    return told


def _changed(signed: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """The files that differ; the manifest alone where no other does, since it follows from them."""
    names = [name for name in sorted({*signed, *found}) if signed.get(name) != found.get(name)]
    return [name for name in names if name != MANIFEST] or names


def _hashes(folder: Path) -> dict[str, str]:
    manifest = (folder / MANIFEST).read_bytes()
    listed = json.loads(manifest)["files"]
    hashes = {str(name): str(entry["sha256"]) for name, entry in listed.items()}
    return {**hashes, MANIFEST: sha256(manifest).hexdigest()}


def from_hex(text: str) -> bytes:
    """The bytes, none where it is no hex: no key and no signature is empty."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
