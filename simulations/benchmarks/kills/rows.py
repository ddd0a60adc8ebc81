"""The kills that were made, the file that keeps them, and which are still to be made."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medgan_core.errors import IntegrityError
from medgan_core.record import make_folder, read_json, write_json
from simulations.benchmarks.kills.phases import PHASES
from simulations.benchmarks.kills.strikes import PROCESSES

Cell = tuple[str, str]
"""Phase and process."""


@dataclass(frozen=True)
class Kill:
    """One kill -9, and how the federation that it fell into ended.

    `landed`: the disks showed the phase on both sides of it. `seconds` is from the kill to the round's end,
    `delay` by how much the whole round took longer than the median of those without a kill. `lost` counts the
    updates that are missing in the journal's line of this round (all of them where there is no line),
    `doubled` the sites' charges beyond one each. Of the whole federation: `completed` with a release, each
    ledger `exact` (the plan's events, none twice, and ε to the last bit as without kills).
    """

    federation: str
    round: int
    phase: str
    process: str
    site: str
    landed: bool
    seconds: float
    delay: float
    lost: int
    doubled: int
    completed: bool
    exact: bool

    @property
    def harmless(self) -> bool:
        """Whether nothing was lost and nothing spent by it."""
        return self.completed and self.exact and not self.lost and not self.doubled


def wanted(count: int) -> list[Cell]:
    """The phases and processes of `count` kills: each phase in turn, with a process that moves on by one."""
    turns = [divmod(n, len(PHASES)) for n in range(count)]
    return [(PHASES[place], PROCESSES[(turn + place) % len(PROCESSES)]) for turn, place in turns]


def missing(count: int, rows: Sequence[Kill]) -> list[Cell]:
    """What is left of `wanted` after the kills that landed."""
    done = Counter((row.phase, row.process) for row in rows if row.landed)
    left = []
    for cell in wanted(count):
        if done[cell]:
            done[cell] -= 1
        else:
            left.append(cell)
    return left


def rows_of(path: Path) -> tuple[Kill, ...]:
    """The kills that are kept, none where there is no file. Raises IntegrityError for a damaged one."""
    if not path.is_file():
        return ()
    try:
        return tuple(Kill(**body) for body in read_json(path)["kills"])
    except (AttributeError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path.name} holds no kills of this benchmark: move it away") from error


def add_rows(path: Path, rows: Sequence[Kill]) -> None:
    """Keep the kills of one more federation, and the summary of all."""
    kept = [*rows_of(path), *rows]
    make_folder(path.parent)
    write_json(path, {"summary": summary(kept), "kills": [asdict(row) for row in kept]})


def summary(rows: Sequence[Kill]) -> list[dict[str, Any]]:
    """By phase and process, in their order: what came of the kills that landed; `delay` is the median."""
    landed = [row for row in rows if row.landed]
    cells = [(phase, process) for phase in PHASES for process in PROCESSES]
    groups = {cell: [row for row in landed if (row.phase, row.process) == cell] for cell in cells}
    return [_line(cell, group) for cell, group in groups.items() if group]


def _line(cell: Cell, rows: Sequence[Kill]) -> dict[str, Any]:
    delays = sorted(row.delay for row in rows)
    return {
        "phase": cell[0],
        "process": cell[1],
        "kills": len(rows),
        "completed": sum(row.completed for row in rows),
        "exact": sum(row.exact for row in rows),
        "rounds_lost": sum(row.lost > 0 for row in rows),
        "double_charges": sum(row.doubled for row in rows),
        "delay": delays[len(delays) // 2],
        "longest_delay": delays[-1],
    }
