"""The files of a release: which they are, their hashes, and how each is read. Nothing in them is pickle.

All that fails here raises ReleaseError, whose message begins with the name of the file.
"""

import json
import re
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

_FILES_1 = ("generator.safetensors", "generator.json", "card.json", "card.md", "receipts.json", "study.toml")
FILES = (*_FILES_1, "configs/metadata.json", "configs/inference.json")
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
CHECKED = ("report.html", "report.pdf")
"""What a release check adds, and with it the images `samples/0000.dcm`, … of a generator that draws them."""
_SAMPLE = re.compile(r"samples/\d{4}\.dcm")
_FOLDERS = frozenset({"configs", "samples"})
_FORMATS = {1: _FILES_1, 2: FILES, 3: (*FILES, *CHECKED)}
M = TypeVar("M", bound=BaseModel)
_RECEIPTS = TypeAdapter(tuple[Receipt, ...])


def write_manifest(folder: Path, created: str = "") -> None:
    """Write manifest.json over the other files of a release, manifest.sig excepted.

    `created` is UTC, ISO 8601: when the release was made, by default as a manifest in its place says, or now.
    """
    made = _created(folder / MANIFEST) if not created and (folder / MANIFEST).is_file() else created
    names = [*FILES, *(CHECKED if (folder / CHECKED[0]).is_file() else ()), *_samples(folder)]
    files = {name: (folder / name).read_bytes() for name in names}
    entries = {name: {"sha256": sha256(body).hexdigest(), "bytes": len(body)} for name, body in files.items()}
    told = {
        "format": 2 if len(names) == len(FILES) else 3,
        "created": made or datetime.now(UTC).isoformat(timespec="seconds"),
        "files": entries,
    }
    write_json(folder / MANIFEST, told)


def _samples(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in (folder / "samples").glob("*"))
    return sorted(name for name in found if _SAMPLE.fullmatch(name))


def _created(manifest: Path) -> str:
    """What a manifest says of when the release was made, in its own words; empty where it says nothing."""
    try:
        return str(json.loads(manifest.read_bytes())["created"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return ""


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a release after a check of their hashes, manifest.json and manifest.sig excepted.

    Raises InputError where the folder is no release, ReleaseError naming a file that is missing, extra or
    changed.
    """
    try:
        present = _present(folder)
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
    for name in sorted(present - {MANIFEST, SIGNATURE, *expected}):
        raise ReleaseError(f"{name} is extra: the manifest does not list it; do not use it, or remove it")
    return {name: _read_checked(folder / name, name, entry) for name, entry in expected.items()}


def created(folder: Path) -> datetime:
    """When a release was made, by its manifest (UTC). Raises ReleaseError where it does not say."""
    try:
        told = datetime.fromisoformat(_created(folder / MANIFEST))
    except ValueError as error:
        raise ReleaseError(f"{MANIFEST} does not say when the release was created") from error
    return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)


def _present(folder: Path) -> set[str]:
    """Whatever lies in a folder, by the path from there; folders that a release has excepted."""
    found = [
        path for top in folder.iterdir() for path in (top, *(() if top.is_symlink() else top.rglob("*")))
    ]
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {
        name for name, path in names.items() if path.is_symlink() or not path.is_dir() or name not in _FOLDERS
    }


def _read_checked(path: Path, name: str, expected: Mapping[str, Any]) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise ReleaseError(f"{name} is missing: the manifest lists it; get the release again")
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{name} cannot be read: {error.strerror}") from error
    if len(body) != expected["bytes"] or sha256(body).hexdigest() != expected["sha256"]:
        raise ReleaseError(f"{name} was changed: its SHA-256 is not that of the manifest")
    return body


def _manifest(path: Path) -> dict[str, Mapping[str, Any]]:
    try:
        body = json.loads(path.read_bytes())
        if (listed := _FORMATS.get(body["format"])) is None:
            raise ReleaseError(f"{MANIFEST} has format {body['format']!r}: this MedGAN reads 1 to 3")
        files: dict[str, Mapping[str, Any]] = {
            str(name): {"sha256": e["sha256"], "bytes": e["bytes"]} for name, e in body["files"].items()
        }
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{MANIFEST} cannot be read: {error.__class__.__name__}") from error
    samples = sorted(name for name in files if body["format"] == 3 and _SAMPLE.fullmatch(name))
    listed = (*listed, *samples)
    for name in sorted(set(files) ^ set(listed)):
        raise ReleaseError(f"{MANIFEST} {'lists' if name in files else 'does not list'} {name}")
    return {name: files[name] for name in listed}


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
