"""Utility of every method side by side: same data, split by patient, ε, δ, unit, accountant and judge.

A row is kept as soon as its cell is done, so an interrupted benchmark goes on where it stopped. The judge is
the fixed protocol of `medgan_core.evaluate.utility`, on the same number of synthetic images for all methods.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from client.site import RandomFor
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.errors import ConfigError
from medgan_core.evaluate.report import trained_scores
from medgan_core.evaluate.utility import Scores
from medgan_core.record import RunFolder
from medgan_core.seeds import Seeds
from simulations.benchmarks.baselines.method import Sampler
from simulations.benchmarks.utility.grid import Cell, Grid, cells
from simulations.benchmarks.utility.rows import Row, add_row, rows_of
from simulations.hospitals import Launch, open_sites, pooled, secret_random
from simulations.progress import Progress


def measure(
    grid: Grid, path: Path, launch: Launch, progress: Progress, random: RandomFor = secret_random
) -> None:
    """Fill what is missing of a grid, and keep each row in the file at `path` as soon as it is there.

    Raises ConfigError for a set that is not public: figures on real images may not leave else.
    """
    opened: tuple[tuple[str, int, int], tuple[Site, ...]] | None = None
    for cell in cells(grid):
        if (cell.key, cell.digest()) in {(row.key, row.digest) for row in rows_of(path)}:
            continue
        if opened is None or opened[0] != cell.place:
            opened = cell.place, _open(cell.study, launch)
        row = _row(cell, opened[1], random)
        add_row(path, row)
        progress.say(
            f"{row.study}, ε = {row.epsilon:g}, sites {row.sites}, seed {row.seed}, {row.method}: "
            f"accuracy {row.accuracy:.3f}, AUC {row.auc:.3f} in {row.seconds:.0f} s"
        )


def _open(study: Study, launch: Launch) -> tuple[Site, ...]:
    with TemporaryDirectory() as folder:
        sites = open_sites(study, RunFolder.create(Path(folder), study), launch)
    if not sites[0].training.card.public:
        raise ConfigError(
            "data.path", study.data.path, "a public set: figures on real images may not leave else"
        )
    return sites


def _row(cell: Cell, sites: Sequence[Site], random: RandomFor) -> Row:
    began = time.monotonic()
    sampler = cell.method.train(cell.study, sites, Seeds(cell.study.seed), random)
    seconds = time.monotonic() - began
    scores = judged(cell.study, sites, sampler)
    return Row(
        *cell.key,
        scores.accuracy,
        scores.balanced_accuracy,
        scores.auc,
        round(seconds, 1),
        sampler.epsilon,
        cell.digest(),
    )


def judged(study: Study, sites: Sequence[Site], sampler: Sampler) -> Scores:
    """Train the fixed classifier on synthetic images, score it on all held-out patients."""
    seeds = Seeds(study.seed)
    images, labels = sampler.draw(study.evaluation.synthetic_images, seeds.child("evaluation"))
    if not images.isfinite().all():
        return Scores()
    _, held_out = pooled(sites, sites[0].training.card)
    return trained_scores(images, labels, held_out, seed=seeds.child("report").integer())
