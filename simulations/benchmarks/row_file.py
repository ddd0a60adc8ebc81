"""A file of rows with the commands that made them: a benchmark that was interrupted goes on with it."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from medgan_core.errors import IntegrityError
from medgan_core.record import make_folder, read_json, write_json


class Keyed(Protocol):
    """A row of a benchmark."""

    @property
    def key(self) -> Hashable:
        """What a later row takes the place of."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON."""


AnyRow = TypeVar("AnyRow", bound=Keyed)


@dataclass(frozen=True)
class RowFile(Generic[AnyRow]):
    """How a benchmark's rows are read from JSON, and by what they are sorted."""

    read: Callable[[Mapping[str, Any]], AnyRow]
    order: Callable[[AnyRow], Any]

    def rows_of(self, path: Path) -> tuple[AnyRow, ...]:
        """The rows that are kept, none where there is no file. Raises IntegrityError for a damaged one."""
        if not path.is_file():
            return ()
        try:
            return tuple(self.read(body) for body in read_json(path)["rows"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{path.name} holds no rows of this benchmark: move it away") from error

    def add_row(self, path: Path, row: AnyRow) -> None:
        """Keep a row, in place of an older one of the same key."""
        kept = [old for old in self.rows_of(path) if old.key != row.key]
        self._write(path, [*kept, row], commands_of(path))

    def add_command(self, path: Path, command: str) -> None:
        """Remember a command beside the rows."""
        self._write(path, self.rows_of(path), tuple(dict.fromkeys([*commands_of(path), command])))

    def _write(self, path: Path, rows: Sequence[AnyRow], commands: Sequence[str]) -> None:
        make_folder(path.parent)
        told = [row.to_json() for row in sorted(rows, key=self.order)]
        write_json(path, {"commands": list(commands), "rows": told})


def commands_of(path: Path) -> tuple[str, ...]:
    """The commands that made the rows, in the order in which they were first given."""
    return tuple(read_json(path)["commands"]) if path.is_file() else ()
