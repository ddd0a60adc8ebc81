"""Gradient inversion of one patient's step, with and without privacy, by all attacks there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from medgan_core.data.source import Site
from medgan_core.gan.scores import psnr
from medgan_core.privacy.noise import Keystream
from medgan_core.seeds import Seeds
from simulations.attacks.exposure import Present, Scene, patients_gradient, update, without_patients
from simulations.attacks.inversion import from_features, from_latents, from_samples
from simulations.benchmarks.attacks.setting import Level, Released

ATTACKS = ("features", "latents", "samples")
_VICTIMS, _PRIOR, _STARTS = 4, 1000, 8
_STEPS = {"features": 300, "latents": 60}


@dataclass(frozen=True, eq=False)
class Inverted:
    """Victims [n, c, h, w], the mean image of the generator for each, and what each attack made of them."""

    level: Level
    victims: Tensor
    means: Tensor
    guesses: dict[str, Tensor]

    def rows(self) -> list[dict[str, Any]]:
        """PSNR in decibels, the mean over victims, of each attack beside the mean image."""
        beside = round(fmean(psnr(self.means, self.victims).tolist()), 2)
        return [
            {
                "attack": name,
                "privacy": str(self.level),
                "psnr": round(fmean(psnr(found, self.victims).tolist()), 2),
                "mean_image": beside,
                "victims": len(self.victims),
            }
            for name, found in self.guesses.items()
        ]


def inverted(released: Released, site: Site, level: Level) -> Inverted:
    """Every attack on the same victims: patients of one image, as many of each class."""
    scene, seeds = released.scene(level), Seeds(released.study.seed).child("inversion")
    classes = range(len(released.task.classes))
    priors = [released.draw(label, _PRIOR, seeds.child(label)) for label in classes]
    victims = [one for label in classes for one in _with_one_image(site, label)]
    guesses: dict[str, list[Tensor]] = {name: [] for name in ATTACKS}
    for one in victims:
        for name, image in _attacked(scene, released, one, priors[_label(one)], seeds).items():
            guesses[name].append(image)
    return Inverted(
        level,
        torch.cat([one.training.images for one in victims]),
        torch.cat([priors[_label(one)].mean(0, keepdim=True) for one in victims]),
        {name: torch.cat(images) for name, images in guesses.items()},
    )


def _attacked(scene: Scene, released: Released, one: Site, prior: Tensor, seeds: Seeds) -> dict[str, Tensor]:
    """The image of one patient as each attack has it, from one update of the site."""
    seen = patients_gradient(scene, update(scene, one, Present(Keystream())), without_patients(scene, one))
    label, random = _label(one), seeds.child(one.training.patients[0]).generator()
    latents = torch.randn(_STARTS, released.task.latent_size, generator=random)
    mean = prior.mean(0, keepdim=True)
    steps, generator = _STEPS, released.generator
    return {
        "features": from_features(scene, seen, label, mean, steps["features"]),
        "latents": from_latents(scene, seen, label, generator, latents, steps["latents"]),
        "samples": from_samples(scene, seen, label, prior),
    }


def _with_one_image(site: Site, label: int) -> list[Site]:
    """The site as if a patient of this label with one image were alone there, for several such patients."""
    data = site.training
    single = data.owner.bincount() == 1
    chosen: Sequence[int] = data.owner[single[data.owner] & (data.labels == label)][:_VICTIMS].tolist()
    return [Site(site.name, data.of_patients([patient]), site.held_out) for patient in chosen]


def _label(one: Site) -> int:
    return int(one.training.labels[0])
