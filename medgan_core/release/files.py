"""The files of a release: which they are, their hashes, and how each is read. Nothing in them is pickle.

All that fails here raises ReleaseError, whose message begins with the name of the file.
"""

import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from medgan_core.config import Study, parse_study
from medgan_core.errors import InputError, ReleaseError
from medgan_core.messages import Arrays, Receipt
from medgan_core.record import write_json

FILES = ("generator.safetensors", "generator.json", "card.json", "card.md", "receipts.json", "study.toml")
MANIFEST = "manifest.json"
M = TypeVar("M", bound=BaseModel)
_RECEIPTS = TypeAdapter(tuple[Receipt, ...])


def write_manifest(folder: Path) -> None:
    """Write manifest.json over the other files of a release."""
    files = {name: (folder / name).read_bytes() for name in FILES}
    entries = {name: {"sha256": sha256(body).hexdigest(), "bytes": len(body)} for name, body in files.items()}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / MANIFEST, {"format": 1, "created": created, "files": entries})


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a release after a check of their hashes, manifest.json excepted.

    Raises InputError where the folder is no release, ReleaseError naming a file that is missing, extra or
    changed.
    """
    try:
        present = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise InputError(f"RELEASE {folder}: expected the folder of a release: {error.strerror}") from error
    if not present & {MANIFEST, *FILES}:
        hint = "; did you mean its folder release?" if (folder / "release" / MANIFEST).is_file() else ""
        raise InputError(f"RELEASE {folder} is no release: it holds no {MANIFEST}{hint}")
    if MANIFEST not in present:
        raise ReleaseError(
            f"{MANIFEST} is missing: the release cannot be checked; get it again from its source"
        )
    expected = _manifest(folder / MANIFEST)
    for name in sorted(present - {MANIFEST, *FILES}):
        raise ReleaseError(f"{name} is extra: the manifest does not list it; do not use it, or remove it")
    return {name: _read_checked(folder / name, expected[name]) for name in FILES}


def _read_checked(path: Path, expected: Mapping[str, Any]) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise ReleaseError(f"{path.name} is missing: the manifest lists it; get the release again")
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(body) != expected["bytes"] or sha256(body).hexdigest() != expected["sha256"]:
        raise ReleaseError(f"{path.name} was changed: its SHA-256 is not that of the manifest")
    return body


def _manifest(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        body = json.loads(path.read_bytes())
        if body["format"] != 1:
            raise ReleaseError(f"{MANIFEST} has format {body['format']!r}: this MedGAN reads format 1")
        files: dict[str, Mapping[str, Any]] = {
            str(name): {"sha256": e["sha256"], "bytes": e["bytes"]} for name, e in body["files"].items()
        }
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{MANIFEST} cannot be read: {error.__class__.__name__}") from error
    for name in sorted(set(files) ^ set(FILES)):
        raise ReleaseError(f"{MANIFEST} {'lists' if name in files else 'does not list'} {name}")
    return files


def _json(name: str, files: Mapping[str, bytes]) -> Any:
    try:
        return json.loads(files[name])
    except (ValueError, RecursionError) as error:
        raise ReleaseError(f"{name} cannot be read: {error.__class__.__name__}") from error


def parse(model: type[M], name: str, files: Mapping[str, bytes]) -> M:
    """A JSON file as a value of this model."""
    try:
        return model.model_validate(_json(name, files))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ReleaseError(f"{name}: {place}: {first['msg']}") from error


def receipts_of(files: Mapping[str, bytes]) -> tuple[Receipt, ...]:
    """What receipts.json holds."""
    try:
        bodies = _json("receipts.json", files)
        # from_json refuses keys that it does not know, the adapter values of a wrong type.
        for body in bodies:
            Receipt.from_json(body)
        return _RECEIPTS.validate_python(bodies)
    except (TypeError, ValueError, KeyError) as error:
        raise ReleaseError(f"receipts.json cannot be read: {error.__class__.__name__}") from error


def study_of(files: Mapping[str, bytes]) -> Study:
    """What study.toml holds."""
    try:
        return parse_study(tomllib.loads(files["study.toml"].decode()))
    except (ValueError, InputError) as error:
        raise ReleaseError(f"study.toml cannot be read: {error}") from error


def weights_of(files: Mapping[str, bytes]) -> Arrays:
    """The tensors of generator.safetensors."""
    try:
        arrays: Arrays = safetensors.load(files["generator.safetensors"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"generator.safetensors cannot be read: {error.__class__.__name__}") from error
    return arrays
