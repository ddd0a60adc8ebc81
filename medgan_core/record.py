"""A run is a folder, and every file in it is either the old one or the new one.

    study.toml  environment.json  rounds.jsonl  ledger.json  metrics.json
    samples.png  curves.png  report.html  release/  sites/<site>/  state/round-<n>.safetensors
    arrivals/ (the updates of the round at hand)  release.key  trust.keys (of a simulation alone)

A state file holds tensors and, in its header, everything else that `resume` needs.
"""

import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from medgan_core.config import Study, load_study
from medgan_core.disk import draft_of, fsync_folder
from medgan_core.errors import InputError, IntegrityError, MedGANError
from medgan_core.messages import Array, Groups, digest_groups

_KEPT_STATES = 2
_PACKAGES = ("medgan-federated", "torch", "flwr", "opacus", "monai", "numpy", "pydicom", "safetensors")


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by fsync and rename: after a crash it is the old one or the new one, never a part.

    Of several writers at once the last one's stays, whole. Raises MedGANError, and leaves the old file, where
    the disk is full or the folder cannot be written.
    """
    _replace(path, lambda part: part.write_bytes(content))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    try:
        with draft_of(path) as part:
            write(part)
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            part.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        raise _unsaved(path, error.strerror or str(error)) from error
    except SafetensorError as error:  # of the disk too: the library wraps what the system said
        raise _unsaved(path, str(error)) from error


def write_json(path: Path, body: object) -> None:
    """Write JSON atomically, readable by people."""
    write_atomically(path, json_bytes(body))


def json_bytes(body: object) -> bytes:
    """JSON as `write_json` writes it."""
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()


def read_json(path: Path) -> Any:
    """Read JSON. Raises IntegrityError naming the file where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path.name} cannot be read: {error.__class__.__name__}") from error


def save_groups(path: Path, groups: Groups, header: object) -> None:
    """Write groups of arrays and a JSON header as one safetensors file, atomically.

    The names of groups hold no "/". A SHA-256 of it all goes in too, since safetensors has no checksum.
    """
    flat = {
        f"{group}/{name}": np.asarray(array, order="C")
        for group, arrays in groups.items()
        for name, array in arrays.items()
    }
    text = json.dumps(header)
    told = {"header": text, "digest": digest_groups(groups, text)}
    _replace(path, lambda part: save_file(flat, part, metadata=told))


def load_groups(path: Path) -> tuple[dict[str, dict[str, Array]], Any]:
    """Read what `save_groups` wrote. Raises IntegrityError naming the file where it is damaged."""
    groups: dict[str, dict[str, Array]] = {}
    try:
        with safe_open(path, framework="numpy") as opened:
            told = opened.metadata() or {}
            for key in opened.keys():  # noqa: SIM118 - an opened file is no mapping
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = opened.get_tensor(key)
        header = json.loads(told["header"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"{path.name} is damaged or missing: {error.__class__.__name__}") from error
    if digest_groups(groups, told["header"]) != told.get("digest"):
        raise IntegrityError(f"{path.name} is damaged: its content is not what was saved")
    return groups, header


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where missing. Raises MedGANError where that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unsaved(path, error.strerror or str(error)) from error


class RunFolder:
    """The folder of one run. Paths in it are fixed; what is written is written atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.release = path / "release"
        self.sites = path / "sites"
        self.arrivals = path / "arrivals"

    @classmethod
    def create(cls, out: Path, study: Study) -> "RunFolder":
        """Make `out/<study>-<UTC time>/` with the resolved study and the environment in it."""
        stem = f"{study.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        for attempt in range(1000):
            path = out / (stem if attempt == 0 else f"{stem}-{attempt + 1}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if out.is_dir():
                    continue
                raise InputError(f"--out {out.name}: expected a folder, found a file") from None
            except OSError as error:
                raise InputError(f"--out {out.name}: {error.strerror}; choose another folder") from error
            break
        else:
            raise InputError(f"--out {out.name} has a thousand runs of this second; choose another folder")
        run = cls(path)
        make_folder(path / "state")
        make_folder(run.sites)
        write_atomically(path / "study.toml", study.to_toml().encode())
        write_json(path / "environment.json", environment())
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run. Raises InputError where the folder is none."""
        if not (path / "study.toml").is_file():
            raise InputError(f"{path.name} is not a run folder: it holds no study.toml")
        return cls(path)

    @property
    def name(self) -> str:
        """The run's name: that of its folder."""
        return self.path.name

    def study(self) -> Study:
        """The resolved study of the run."""
        return load_study(self.path / "study.toml")

    def site(self, name: str) -> Path:
        """The folder of one simulated site."""
        folder = self.sites / name
        make_folder(folder)
        return folder

    def save_state(self, round_number: int, groups: Groups, header: Mapping[str, Any]) -> None:
        """Checkpoint the state after a round and drop all but the latest few."""
        folder = self.path / "state"
        save_groups(folder / f"round-{round_number:06d}.safetensors", groups, header)
        for old in sorted(folder.glob("round-*.safetensors"))[:-_KEPT_STATES]:
            with suppress(OSError):  # one state too many does no harm
                old.unlink()

    def latest_state(self) -> tuple[Groups, Any] | None:
        """The newest checkpoint that can be read, or None before the first."""
        for path in sorted((self.path / "state").glob("round-*.safetensors"), reverse=True):
            try:
                return load_groups(path)
            except IntegrityError:
                continue
        return None

    def write_rounds(self, history: tuple[Mapping[str, Any], ...]) -> None:
        """One JSON line for each finished round."""
        lines = "".join(json.dumps(dict(entry)) + "\n" for entry in history)
        write_atomically(self.path / "rounds.jsonl", lines.encode())


def environment() -> dict[str, Any]:
    """Versions and machine facts that a result may depend on; no path and no host name."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "packages": versions,
    }


def _unsaved(path: Path, reason: str) -> MedGANError:
    return MedGANError(
        f"{path.name} could not be saved: {reason}; what was saved before is untouched. "
        "Free some space or mend the folder's permissions, then resume"
    )
