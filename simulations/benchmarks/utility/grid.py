"""Which cells a benchmark of utility has: one method on one study, at one ε, number of sites and seed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from math import inf, isinf

from medgan_core.config import Study, load_study
from medgan_core.errors import InputError
from medgan_core.privacy.sum_rules import FEWEST_SITES
from simulations.benchmarks.baselines import METHODS
from simulations.benchmarks.baselines.method import Method
from simulations.benchmarks.utility.rows import Key
from simulations.shipped import study_path

EPSILONS = (0.5, 1.0, 2.0, 4.0, 10.0, inf)
SITES = (1, 3, 10, 30)


@dataclass(frozen=True)
class Grid:
    """Which cells are asked for. `points` are pairs of ε and sites, None for what the study has by itself."""

    studies: tuple[str, ...]
    methods: tuple[str, ...]
    points: tuple[tuple[float | None, int | None], ...]
    seeds: tuple[int, ...]
    settings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        studies: Sequence[str],
        methods: Sequence[str],
        epsilons: Sequence[float],
        sites: Sequence[int],
        seeds: int,
        settings: Sequence[str] = (),
    ) -> "Grid":
        """All pairs of ε and sites where both are given; one by itself goes with the study's own other.

        With neither: every ε at the study's own sites, and every number of sites at its own ε.
        Raises InputError for a method that there is not.
        """
        if unknown := sorted(set(methods) - METHODS.keys()):
            raise InputError(f"--methods {','.join(unknown)}: expected some of {', '.join(METHODS)}")
        points: list[tuple[float | None, int | None]]
        if not epsilons and not sites:
            points = [*((epsilon, None) for epsilon in EPSILONS), *((None, count) for count in SITES)]
        else:
            points = list(product(epsilons or (None,), sites or (None,)))
        return cls(tuple(studies), tuple(methods), tuple(points), tuple(range(seeds)), tuple(settings))


@dataclass(frozen=True)
class Cell:
    """One thing to measure: a method by its name, and the study resolved for it."""

    name: str
    study: Study

    @property
    def method(self) -> Method:
        """The method itself."""
        return METHODS[self.name]

    @property
    def epsilon(self) -> float:
        """What is asked for; ∞ without privacy."""
        return self.study.privacy.epsilon if self.study.private else inf

    @property
    def key(self) -> Key:
        """As `Row.key`."""
        sites = 1 if self.method.pooled else self.study.sites.count
        return self.name, self.study.name, self.epsilon, sites, self.study.seed

    @property
    def place(self) -> tuple[str, int, int]:
        """What decides on the sites that it needs: study, seed and the number of sites to open."""
        return self.study.name, self.study.seed, self.study.sites.count

    def digest(self) -> str:
        """SHA-256 of everything that the result depends on, but for the code and the secret noise."""
        body = {"method": self.name, "setup": dict(self.method.setup), "study": self.study.to_dict()}
        return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def cells(grid: Grid) -> tuple[Cell, ...]:
    """The cells of a grid, each once, those of the same sites together.

    Left out is what has no meaning: secure sums of fewer than three sites or without privacy, and all but one
    ε of a method without any. A pooled method has the study's own sites joined.
    """
    found: dict[Key, Cell] = {}
    for study, seed, point, name in product(grid.studies, grid.seeds, grid.points, grid.methods):
        cell = Cell(name, resolved(study, grid.settings, *_point(METHODS[name], *point), seed))
        if _sensible(cell):
            found.setdefault(cell.key, cell)
    order = {name: place for place, name in enumerate(METHODS)}
    return tuple(sorted(found.values(), key=lambda cell: (*cell.place, cell.epsilon, order[cell.name])))


def _point(method: Method, epsilon: float | None, sites: int | None) -> tuple[float | None, int | None]:
    """Where a method is measured: what it does not depend on is the study's own."""
    return epsilon if method.private else inf, None if method.pooled else sites


def _sensible(cell: Cell) -> bool:
    return not cell.method.summed or (cell.study.private and cell.study.sites.count >= FEWEST_SITES)


def resolved(
    name: str, settings: Sequence[str], epsilon: float | None, sites: int | None, seed: int
) -> Study:
    """The study of a cell, None for what it has by itself; ∞ for ε is no privacy.

    All nominal patients are divided anew where the number of sites changes. The sites' ledgers refuse any
    charge above the ε that is asked for. Secure sums are for the methods to ask for.
    """
    asked = load_study(study_path(name), settings)
    count, own = sites or asked.sites.count, asked.privacy.epsilon if asked.private else inf
    epsilon = own if epsilon is None else epsilon
    nominal = max(1, round(asked.sites.nominal_patients * asked.sites.count / count))
    cell = [
        "privacy.mode='off'" if isinf(epsilon) else f"privacy.epsilon={float(epsilon)}",
        f"seed={seed}",
        f"sites.count={count}",
        f"sites.nominal_patients={nominal}",
        f"sites.epsilon_cap={float(epsilon)}",
        "privacy.secure_sum=false",
        "sites.trust_secure_sum=true",
        "sites.local_epsilon=inf",
        "privacy.max_repeats=0",
    ]
    return load_study(study_path(name), [*settings, *cell])
