"""Tiny studies of the tasks whose fakes are made of patients' images, and a site for them."""

from typing import Any

import torch

from medgan_core.config import Study, parse_study
from medgan_core.data.source import Card, Site, SiteData
from medgan_core.gan.task import PatientTask
from medgan_core.gan.tasks import make_task
from medgan_core.messages import Phase, Request
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.tensors import seeded, weights_of

CHANNELS = {"segmentation": 2, "restoration": 1, "translation": 2, "anomaly": 1}
CLASSES = ("a", "b")
SIDE = 32
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("segmentation", {}),
    ("restoration", {"corruption": "mixed"}),
    ("translation", {}),
    ("translation", {"paired": False}),
    ("anomaly", {"normal": "a"}),
)
_KINDS = {1: {"kind": "npz"}, 2: {"kind": "folder", "masks": "masks.zip"}}
NAMES = ["segmentation", "restoration", "pix2pix", "cyclegan", "f-anogan"]


def study(name: str, mapping: dict[str, Any] | None = None, **changes: Any) -> Study:
    return parse_study(
        {
            "name": "x",
            "task": name,
            "strategy": "refine",
            "rounds": 1,
            "seed": 3,
            "data": {"path": "x", "image_size": SIDE, "classes": list(CLASSES)} | _KINDS[CHANNELS[name]],
            "privacy": {"sampling_rate": 0.9},
            "training": {"discriminator_width": 4, "discriminator_steps": 2, "precision": "float32"},
            "mapping": {"width": 4, "adversarial_weight": 0.1} | (mapping or {}),
        }
        | changes
    )


def shape(name: str) -> tuple[int, int, int]:
    return (CHANNELS[name], SIDE, SIDE)


def task_of(asked: Study) -> PatientTask:
    task = make_task(asked, shape(asked.task), CLASSES)
    assert isinstance(task, PatientTask)
    return task


def data(name: str, counts: list[int], seed: int) -> SiteData:
    """Smooth images; the last channel of a segmentation is a mask of what is bright in the first."""
    random = torch.Generator().manual_seed(seed)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    coarse = torch.rand(len(owner), CHANNELS[name], 8, 8, generator=random) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    if name == "segmentation":
        images[:, 1] = images[:, 0].sign()
    labels = torch.randint(2, (len(owner),), generator=random)
    card = Card("x", CLASSES, shape(name), "OT", "patient", False)
    return SiteData(card, tuple(f"p{seed}-{i}" for i in range(len(counts))), owner, images, labels)


def site(name: str) -> Site:
    return Site("north", data(name, [1, 2, 3, 1, 2], 0), data(name, [2, 1, 3], 90))


def incoming(asked: Study, phase: Phase) -> Request:
    task = task_of(asked)
    generator = weights_of(seeded(task.make_generator, 1))
    groups = {
        "generator": generator,
        "discriminator": weights_of(seeded(task.make_discriminator, 2)),
        "release": generator,
    }
    return Request("run", 1, phase, PrivacyPlan.of(asked, "patient").digest(), groups)
