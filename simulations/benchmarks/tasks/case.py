"""What every method of the benchmark of tasks is given, and what it gives back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from medgan_core.config import Study
from medgan_core.data.source import Site, SiteData
from medgan_core.errors import ConfigError, InputError
from medgan_core.gan.task import PatientTask
from medgan_core.gan.tasks import make_task
from medgan_core.record import RunFolder
from simulations.hospitals import Launch, open_sites, pooled


@dataclass(frozen=True)
class Reached:
    """The scores of a method on held-out patients, and the ε that its sites charged; ∞ is no privacy."""

    scores: Mapping[str, float]
    epsilon: float = inf


@dataclass(frozen=True)
class Case:
    """One study of a task on a public set, its patients at their sites, read once for all methods."""

    study: Study
    launch: Launch

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """The sites of the study. Raises ConfigError for a set that is not public."""
        with TemporaryDirectory() as folder:
            sites = open_sites(self.study, RunFolder.create(Path(folder), self.study), self.launch)
        if not sites[0].training.card.public:
            raise ConfigError(
                "data.path", self.study.data.path, "a public set: figures on real images may not leave else"
            )
        return sites

    @cached_property
    def patients(self) -> tuple[SiteData, SiteData]:
        """All training and all held-out patients in one place."""
        return pooled(self.sites, self.sites[0].training.card)

    @cached_property
    def task(self) -> PatientTask:
        """The study's task. Raises ConfigError for one whose networks see no patient's image."""
        card = self.sites[0].training.card
        task = make_task(self.study, card.image_shape, card.classes)
        if not isinstance(task, PatientTask):
            raise ConfigError("task", self.study.task, "one that works on patients' images")
        return task


Judge = Callable[[Case], Reached | None]
"""A method, trained and chosen on `patients[0]` alone, judged on `patients[1]`; its docstring describes it.

None where the study asks for what it is not made for."""


def names_of(methods: Mapping[str, Judge], asked: Sequence[str]) -> tuple[str, ...]:
    """The methods asked for, all where none is. Raises InputError for one that is not there."""
    if unknown := [name for name in asked if name not in methods]:
        raise InputError(f"--methods {unknown[0]}: expected some of {', '.join(methods)}")
    return tuple(name for name in methods if not asked or name in asked)
