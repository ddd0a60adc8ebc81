"""Which code would work on this hospital's data: an approval binds to it."""

import sys
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

_PACKAGES = ("client", "medgan_core")


@cache
def trainer_version() -> str:
    """The package's version and a SHA-256 over the installed source files; of this process, once."""
    try:
        told = version("medgan-federated")
    except PackageNotFoundError:
        told = "unpackaged"
    return f"{told}+{source_digest(_homes())[:32]}"


def source_digest(folders: dict[str, Path]) -> str:
    """SHA-256 over names and contents of all files of code below these folders."""
    digest = sha256(f"python {sys.version_info.major}.{sys.version_info.minor}\n".encode())
    for package, folder in sorted(folders.items()):
        for path in sorted(folder.rglob("*.py")):
            name = f"{package}/{path.relative_to(folder).as_posix()}"
            digest.update(f"{name} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _homes() -> dict[str, Path]:
    homes = {}
    for package in _PACKAGES:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            homes[package] = Path(spec.origin).parent
    return homes
