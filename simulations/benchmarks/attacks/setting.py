"""The small studies that are attacked, and their public images."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from medgan_core.config import Study, load_study
from medgan_core.data.source import Site
from medgan_core.errors import InputError
from medgan_core.gan.task import SynthesisTask, synthesis_of
from medgan_core.messages import Groups
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import RunFolder
from medgan_core.seeds import Seeds
from medgan_core.tensors import load
from simulations.attacks.exposure import Scene
from simulations.benchmarks.baselines.federation import Federation
from simulations.hospitals import Launch, open_sites
from simulations.shipped import study_path

STUDY = "pneumonia"
_SMALL: dict[str, Any] = {
    "strategy": "refine",
    "sites.count": 2,
    "rounds": 2,
    "one_shot.iterations": 150,
    "one_shot.batch": 64,
    "one_shot.frequencies": 300,
    "training.generator_width": 16,
    "training.batch": 64,
    "training.discriminator_steps": 60,
    "evaluation.gate": False,
}


@dataclass(frozen=True)
class Level:
    """How private a federation is: "off", or ε in figures."""

    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """What a study is told."""
        if self.name == "off":
            return {"privacy.mode": "off"}
        return {"privacy.epsilon": float(self.name)}

    def __str__(self) -> str:
        return "not private" if self.name == "off" else f"ε = {self.name}"


def small_study(**changes: Any) -> Study:
    """The study in a size that trains in half a minute; dotted keys are written with two underscores."""
    told = _SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    return load_study(study_path(STUDY), [f"{name}={_text(value)}" for name, value in told.items()])


def full_plan(level: Level) -> PrivacyPlan:
    """That of the shipped study with rounds: its clip norm, and the noise of its 400 steps at this ε."""
    told = {"strategy": "refine"} | level.settings
    study = load_study(study_path(STUDY), [f"{name}={_text(value)}" for name, value in told.items()])
    return PrivacyPlan.of(study, "patient")


def sites_of(study: Study, launch: Launch) -> tuple[Site, ...]:
    """The study's sites. InputError where the images are not the published ones: real ones are shown."""
    with TemporaryDirectory() as folder:
        sites = open_sites(study, RunFolder.create(Path(folder), study), launch)
    if not sites[0].training.card.public:
        raise InputError(
            f"{study.data.path}: expected the published set, byte for byte; its images are shown"
        )
    return sites


@dataclass(frozen=True, eq=False)
class Released:
    """A federation's end as everybody sees it: the generator that is released, and the last weights sent."""

    study: Study
    task: SynthesisTask
    groups: Groups
    generator: nn.Module

    @classmethod
    def of(cls, study: Study, ended: Federation) -> "Released":
        """Of a federation that ended."""
        task = synthesis_of(ended.task)
        generator = task.make_generator()
        load(generator, ended.state.groups["release"])
        return cls(study, task, ended.state.groups, generator.eval())

    def scene(self, level: Level) -> Scene:
        """One step more, from the last weights, with the whole study's noise or without any."""
        private = level.name != "off"
        scene = Scene.of(self.study, self.task, full_plan(level if private else Level("10")), self.sent)
        return scene if private else scene.without_privacy()

    @property
    def sent(self) -> Groups:
        """What a training round starts from."""
        return {name: self.groups[name] for name in ("generator", "discriminator", "statistics")}

    def draw(self, label: int, count: int, seeds: Seeds) -> Tensor:
        """Images of one class from the released generator, [count, c, h, w]."""
        with torch.no_grad():
            labels = torch.full((count,), label)
            return self.task.sample(self.generator, labels, seeds.generator()).contiguous()


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
