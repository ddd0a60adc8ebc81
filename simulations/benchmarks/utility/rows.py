"""The rows of the benchmark of utility, and the file that keeps them with the commands that made them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from medgan_core.messages import float_to_json
from simulations.benchmarks.row_file import RowFile
from simulations.benchmarks.row_file import commands_of as commands_of

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


_FILE = RowFile(Row.from_json, lambda row: row.key)
rows_of, add_row, add_command = _FILE.rows_of, _FILE.add_row, _FILE.add_command
