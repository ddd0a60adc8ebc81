"""The Flower app that a coordinator starts: four lines that name what each side has installed.

Nobody needs to trust the bundle that Flower makes of it, and it has no code to trust: a node imports its own
`client`, the coordinator its own `server`. A bundle that brings other code gets as far as its node's user.
"""

import tomllib
from hashlib import sha256
from pathlib import Path

import tomli_w

from medgan_core.disk import fsync_folder

APP_NAME = "medgan-app"
"""The app's name, as Flower lists its runs."""

_SERVER = "medgan_server_app"
_CLIENT = "medgan_client_app"
_MODULES = {
    f"{_SERVER}.py": '"""The coordinator\'s side."""\n\nfrom server.coordinator import app\n',
    f"{_CLIENT}.py": '"""The side of a site."""\n\nfrom client.node_app import app\n',
}
_EXPORTED = '\n__all__ = ["app"]\n'  # Flower looks for the name without importing the module


def renew_app(folder: Path) -> bool:
    """Write the app where it is missing or of another version of this package; whether it was."""
    try:
        made = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["medgan"][
            "made"
        ]
    except (OSError, ValueError, KeyError, TypeError):
        made = ""
    if made == _made():
        return False
    write_app(folder)
    return True


def write_app(folder: Path) -> None:
    """Write the app into a folder, made if need be; what it holds of an earlier version is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(tomli_w.dumps(_project()))
    for name, text in _MODULES.items():
        (folder / name).write_text(text + _EXPORTED)
    fsync_folder(folder)


def _made() -> str:
    """By which text of this file the app was made, so that an upgrade is noticed."""
    return sha256(Path(__file__).read_bytes()).hexdigest()[:16]


def _project() -> dict[str, object]:
    """Flower wants a project's name, version and license; `run` is the only value that a start may set."""
    app = {
        "publisher": "medgan",
        "fab-include": list(_MODULES),
        "components": {"serverapp": f"{_SERVER}:app", "clientapp": f"{_CLIENT}:app"},
        "config": {"run": ""},
    }
    return {
        "project": {
            "name": APP_NAME,
            "version": "1.0.0",
            "description": "MedGAN: a run of the federation",
            "license": "Apache-2.0",
            "dependencies": [],
        },
        "tool": {"flwr": {"app": app}, "medgan": {"made": _made()}},
    }
