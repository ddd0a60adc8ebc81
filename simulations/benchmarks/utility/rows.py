"""The rows of the benchmark of utility, and the file that keeps them with the commands that made them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medgan_core.errors import IntegrityError
from medgan_core.messages import float_to_json
from medgan_core.record import make_folder, read_json, write_json

Key = tuple[str, str, float, int, int]
"""Method, study, ε, sites and seed of a cell."""

_FLOATS = ("epsilon", "accuracy", "balanced_accuracy", "auc", "seconds", "spent")


@dataclass(frozen=True)
class Row:
    """What a method reached. `epsilon` is what was asked for, `spent` what the ledgers say; ∞ is no privacy.

    `sites` is 1 for a pooled method. Scores are in [0, 1], nan where not defined; `seconds` are those of
    training. `digest` binds the row to the resolved study and the method's own settings.
    """

    method: str
    study: str
    epsilon: float
    sites: int
    seed: int
    accuracy: float
    balanced_accuracy: float
    auc: float
    seconds: float
    spent: float
    digest: str

    @property
    def key(self) -> Key:
        """Of the cell that the row fills."""
        return self.method, self.study, self.epsilon, self.sites, self.seed

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON; nan and infinity are strings."""
        return {k: float_to_json(v) if isinstance(v, float) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Row":
        """The inverse of `to_json`."""
        return cls(**{**body, **{name: float(body[name]) for name in _FLOATS}})


def rows_of(path: Path) -> tuple[Row, ...]:
    """The rows that are kept, none where there is no file. Raises IntegrityError for a damaged one."""
    if not path.is_file():
        return ()
    try:
        return tuple(Row.from_json(body) for body in read_json(path)["rows"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path.name} holds no rows of this benchmark: move it away") from error


def commands_of(path: Path) -> tuple[str, ...]:
    """The commands that made the rows, in the order in which they were first given."""
    return tuple(read_json(path)["commands"]) if path.is_file() else ()


def add_row(path: Path, row: Row) -> None:
    """Keep a row, in place of one of the same cell under other settings."""
    kept = [old for old in rows_of(path) if old.key != row.key]
    _write(path, sorted([*kept, row], key=lambda r: r.key), commands_of(path))


def add_command(path: Path, command: str) -> None:
    """Remember a command beside the rows."""
    _write(path, rows_of(path), tuple(dict.fromkeys([*commands_of(path), command])))


def _write(path: Path, rows: Sequence[Row], commands: Sequence[str]) -> None:
    make_folder(path.parent)
    write_json(path, {"commands": list(commands), "rows": [row.to_json() for row in rows]})
