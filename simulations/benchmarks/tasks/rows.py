"""The rows of the benchmark of tasks, and the file that keeps them with the commands that made them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from medgan_core.messages import float_to_json
from simulations.benchmarks.row_file import RowFile
from simulations.benchmarks.row_file import commands_of as commands_of

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


_FILE = RowFile(Row.from_json, lambda row: (row.task, row.study, row.settings))
rows_of, add_row, add_command = _FILE.rows_of, _FILE.add_row, _FILE.add_command
