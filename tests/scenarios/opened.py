"""Starts a command where any user may run this Python and this code, also where they lie in a closed folder.

As root, in a mount namespace of its own (`unshare --mount`): over each closed folder on the way lies an open,
empty one that holds what is needed, and nothing else. The machine itself stays as it is.

    unshare --mount python -m tests.scenarios.opened COMMAND ...
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

NEEDED = (Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), Path(__file__).resolve().parents[2])


def main() -> None:
    kept = Path(tempfile.mkdtemp(prefix="medgan-kept-"))
    _mount("-t", "tmpfs", "none", kept)
    parts = {path: kept / str(i) for i, path in enumerate(sorted(p for n in NEEDED for p in _parts(n)))}
    for path, copy in parts.items():
        _bind(path, copy)
    for folder in sorted({folder for path in parts if (folder := _outermost_closed(path))}):
        _mount("-t", "tmpfs", "-o", "mode=755", "none", folder)
    for path, copy in parts.items():
        if not path.exists():
            _bind(copy, path)
    os.chdir(NEEDED[-1])
    os.execvp(sys.argv[1], sys.argv[1:])


def around() -> tuple[str, ...]:
    """What a command line begins with so that another user can run it; nothing where any user can."""
    if not any(_outermost_closed(path) or not _passable(path) for path in NEEDED):
        return ()
    return ("unshare", "--mount", sys.executable, "-m", "tests.scenarios.opened")


def _parts(path: Path) -> list[Path]:
    """What is bound: a closed folder itself would stay closed."""
    return [path] if _passable(path) else sorted(path.iterdir())


def _outermost_closed(path: Path) -> Path | None:
    return next((folder for folder in reversed(path.parents) if not _passable(folder)), None)


def _passable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o001)


def _bind(path: Path, place: Path) -> None:
    if path.is_dir():
        place.mkdir(parents=True)
    else:
        place.touch()
    _mount("--bind", path, place)


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
