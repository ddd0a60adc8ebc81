"""A training round of tiny networks, and patients with smooth images."""

from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from medgan_core.data.source import Card, Site, SiteData
from medgan_core.gan.tasks.synthesis import synthesis
from medgan_core.privacy.plan import PrivacyPlan
from server.state import initial_state
from simulations.attacks.exposure import Scene
from tests.simulations.making import tiny_study

CLASSES = ("normal", "pneumonia")
CARD = Card("x", CLASSES, (1, 28, 28), "DX", "patient", public=True)


@cache
def scene(width: int = 16) -> Scene:
    """The first training round of a private study; its discriminator is `width` wide."""
    study = tiny_study(training__discriminator_width=width, training__anchor_weight=0.0)
    task = synthesis(study.training, study.mapping, CARD.image_shape, CLASSES)
    groups = initial_state(study, task, "run", ["site-1", "site-2"]).groups
    sent = {name: groups[name] for name in ("generator", "discriminator")} | {"statistics": {}}
    return Scene.of(study, task, PrivacyPlan.of(study, "patient"), sent)


def smooth(count: int, seed: int = 0) -> Tensor:
    """Images [count, 1, 28, 28] without fine structure."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 6, 6, generator=random) * 1.6 - 0.8
    return interpolate(coarse, size=28, mode="bilinear", align_corners=True)


def site(patients: int, seed: int = 0, name: str = "site-1") -> Site:
    """Patients of one image each, of both labels in turn."""
    labels = torch.arange(patients) % 2
    keys = tuple(f"{name}-{number}" for number in range(patients))
    data = SiteData(CARD, keys, torch.arange(patients), smooth(patients, seed), labels)
    return Site(name, data, data.of_patients([0]))
