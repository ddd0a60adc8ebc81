"""A task's run and its rivals side by side: the same patients held out, the same scores.

A row is kept as soon as it is there, so an interrupted benchmark goes on where it stopped.
"""

import json
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from medgan_core.config import Study, load_study
from medgan_core.errors import ConfigError
from server.planning import decided
from simulations.benchmarks.tasks import METHODS
from simulations.benchmarks.tasks.case import Case, names_of
from simulations.benchmarks.tasks.rows import Row, add_row, rows_of
from simulations.hospitals import Launch
from simulations.progress import Progress
from simulations.shipped import study_path


def measure(
    study: str,
    settings: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    path: Path,
    launch: Launch,
    progress: Progress,
) -> None:
    """Fill what is missing of a study's rows, by all methods of its task where none is named.

    Raises ConfigError for a task without methods, or a set that is not public.
    """
    for seed in seeds:
        resolved = decided(load_study(study_path(study), [*settings, f"seed={seed}"]))
        if resolved.task not in METHODS:
            raise ConfigError("task", resolved.task, f"one of {', '.join(METHODS)}")
        case = Case(resolved, launch)
        for name in names_of(METHODS[resolved.task], methods):
            known = {(row.key, row.digest) for row in rows_of(path)}
            if ((study, tuple(settings), name, seed), digest(resolved)) in known:
                continue
            if (row := _row(case, study, tuple(settings), name)) is not None:
                add_row(path, row)
                told = ", ".join(f"{score} {value:.4f}" for score, value in row.scores.items())
                progress.say(f"{study}, seed {seed}, {name}: {told} in {row.seconds:.0f} s")


def digest(study: Study) -> str:
    """Of the resolved study: rows of another one are measured again."""
    return sha256(json.dumps(study.to_dict(), sort_keys=True).encode()).hexdigest()[:16]


def _row(case: Case, study: str, settings: tuple[str, ...], name: str) -> Row | None:
    _ = case.sites  # read before the clock starts
    began, busy = time.monotonic(), time.process_time()
    reached = METHODS[case.study.task][name](case)
    if reached is None:
        return None
    return Row(
        case.study.task,
        study,
        settings,
        name,
        case.study.seed,
        reached.scores,
        reached.epsilon,
        round(time.monotonic() - began, 1),
        round(time.process_time() - busy, 1),
        digest(case.study),
    )
