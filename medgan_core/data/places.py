"""Where the files of a set are, how errors call them, and what counts as damage.

Errors name a file by its path below the data root, never by an absolute path.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medgan_core.data.catalog import missing
from medgan_core.errors import DataError

DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    SyntaxError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)
"""What the readers of others raise on a damaged file."""


@dataclass(frozen=True)
class Place:
    """A set's file or folder below the data root."""

    root: Path
    path: Path

    @property
    def folder(self) -> Path:
        """The folder itself, or the one that holds the file."""
        return self.path if self.path.is_dir() else self.path.parent

    def shown(self, path: Path | None = None) -> str:
        """A path as errors name it: below the data root, or the bare name of what lies outside of it."""
        path = self.path if path is None else path
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name

    def beside(self, name: str) -> Path:
        """A file that the study names: in the set's folder, below the data root, or absolute."""
        with reading(f"file {Path(name).name[:80]!r}"):
            for path in (self.folder / name, self.root / name):
                if inside(name) and path.is_file():
                    return path
            if Path(name).is_absolute() and Path(name).is_file():
                return Path(name)
        raise missing(name if Path(name).is_absolute() else self.shown(self.folder / name))


def locate(root: Path, path: str) -> Place:
    """The place of a set. Raises DataError where nothing is there or a relative path leaves the data root."""
    if not Path(path).is_absolute() and not inside(path):
        raise DataError(
            f"data.path = {path!r} leaves the data root; expected a path below it, or an absolute one"
        )
    found = Path(path) if Path(path).is_absolute() else root / path
    with reading(f"data.path {Path(path).name[:80]!r}"):
        if not found.exists():
            raise missing(path)
    return Place(root, found)


def inside(name: str) -> bool:
    """Whether a relative name stays below the folder it is looked for in."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return bool(parts) and ".." not in parts and not parts[0].startswith("/") and ":" not in parts[0]


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what a reader raises on a damaged file into a DataError that names the file."""
    try:
        yield
    except DAMAGE as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        detail = (
            ""
            if isinstance(error, OSError)
            else f": {str(error).splitlines()[0][:120] if str(error) else ''}"
        )
        raise DataError(f"{name} cannot be read ({cause}{detail.rstrip(': ')}); replace the file") from error
