"""Patterns planted at a site, and whether the released generator draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor

from medgan_core.seeds import Seeds
from simulations.attacks.planted import Pattern, likeness, patch, plant, search, text
from simulations.benchmarks.attacks.setting import Level, Released, sites_of, small_study
from simulations.benchmarks.baselines.federation import federation
from simulations.hospitals import Launch, secret_random

PATIENTS = 8
IMAGES = 2000
_NEVER = 199
_LONGER = {"rounds": 3, "training__discriminator_steps": 80}
KINDS = {"patch": patch, "text": text}
OF_SITE = 100


@dataclass(frozen=True, eq=False)
class Planted:
    """A federation whose first site has patterns in its images: how it ended, and images that it releases.

    `numbers` are those of the patterns: one for the whole site, or one for each of its first patients.
    """

    level: Level
    numbers: tuple[int, ...]
    released: Released
    epsilon: float
    images: Tensor

    @property
    def name(self) -> str:
        """Where the patterns are."""
        count = len(self.numbers)
        return "every image of a site" if count == 1 else f"one patient each, {count} patients"

    def row(self, reference: Tensor) -> dict[str, Any]:
        """What is found; `reference` are images of a federation that never saw these patterns."""
        return {
            "planted": self.name,
            "privacy": str(self.level),
            **{kind: told(self.images, reference, kind, self.numbers) for kind in KINDS},
        }


def everywhere(level: Level, launch: Launch) -> Planted:
    """One patch and one text in every training image of the first of two sites."""
    longer = _LONGER if level.name == "off" else {}  # so that the positive control is one
    return _planted(level, launch, (OF_SITE,), longer)


def one_patient_each(level: Level, launch: Launch) -> Planted:
    """A patch and a text of its own in the images of each of eight patients of the first of two sites."""
    return _planted(level, launch, tuple(range(PATIENTS)), {})


def patterns(number: int) -> list[Pattern]:
    """The patch and the text of this number."""
    return [make(number) for make in KINDS.values()]


def _planted(level: Level, launch: Launch, numbers: tuple[int, ...], longer: Mapping[str, Any]) -> Planted:
    settings = {name.replace(".", "__"): value for name, value in level.settings.items()}
    study = small_study(**settings, **longer)
    site, *others = sites_of(study, launch)
    for patient, number in enumerate(numbers):
        site = plant(site, None if len(numbers) == 1 else [patient], patterns(number))
    ended = federation(study, [site, *others], secret_random)
    images, _ = ended.sampler().draw(IMAGES, Seeds(study.seed).child("attacks"))
    return Planted(level, numbers, Released.of(study, ended), ended.epsilon, images)


def told(images: Tensor, reference: Tensor, kind: str, numbers: Sequence[int]) -> dict[str, Any]:
    """What the search finds of patterns of one kind, beside 199 that nobody planted."""
    make = KINDS[kind]
    never = [make(1000 + number) for number in range(_NEVER)]
    found = [search(images, reference, make(number), never) for number in numbers]
    return {
        "rate": round(fmean(one.rate for one in found), 4),
        "reference": round(fmean(one.reference for one in found), 4),
        "rank": round(median(one.rank for one in found), 3),
        "found": sum(one.found for one in found),
        "of": len(found),
    }


def most_alike(images: Tensor, pattern: Pattern, count: int) -> Tensor:
    """The images that are most like a pattern, the best one first."""
    order = likeness(images, [pattern])[:, 0].argsort(descending=True)
    return images[torch.as_tensor(order[:count])]
