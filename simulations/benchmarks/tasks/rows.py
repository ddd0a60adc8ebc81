"""The rows of the benchmark of tasks, and the file that keeps them with the commands that made them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medgan_core.errors import IntegrityError
from medgan_core.messages import float_to_json
from medgan_core.record import make_folder, read_json, write_json

Key = tuple[str, tuple[str, ...], str, int]
"""Study, settings, method and seed."""


@dataclass(frozen=True)
class Row:
    """What a method reached: `scores` on patients held out, ε as charged (∞ is no privacy).

    `settings` are those beside the study, `seconds` those of the method on the clock and `processor` its
    processor time. `digest` binds the row to the resolved study.
    """

    task: str
    study: str
    settings: tuple[str, ...]
    method: str
    seed: int
    scores: Mapping[str, float]
    epsilon: float
    seconds: float
    processor: float
    digest: str

    @property
    def key(self) -> Key:
        """What a later row takes the place of."""
        return self.study, self.settings, self.method, self.seed

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON; nan and infinity are strings."""
        scores = {name: float_to_json(value) for name, value in self.scores.items()}
        told = {k: float_to_json(v) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return told | {"settings": list(self.settings), "scores": scores}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Row":
        """The inverse of `to_json`."""
        numbers = {name: float(body[name]) for name in ("epsilon", "seconds", "processor")}
        scores = {name: float(value) for name, value in body["scores"].items()}
        return cls(**{**body, **numbers, "settings": tuple(body["settings"]), "scores": scores})


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
    """Keep a row, in place of an older one of the same cell."""
    kept = [old for old in rows_of(path) if old.key != row.key]
    _write(path, [*kept, row], commands_of(path))


def add_command(path: Path, command: str) -> None:
    """Remember a command beside the rows."""
    _write(path, rows_of(path), tuple(dict.fromkeys([*commands_of(path), command])))


def _write(path: Path, rows: Sequence[Row], commands: Sequence[str]) -> None:
    make_folder(path.parent)
    ordered = sorted(rows, key=lambda row: (row.task, row.study, row.settings))
    write_json(path, {"commands": list(commands), "rows": [row.to_json() for row in ordered]})
