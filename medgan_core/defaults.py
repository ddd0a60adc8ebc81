"""Defaults that go by a study's public facts: whether it is private, its images' size and its classes."""

from collections.abc import Mapping
from typing import Any

WITHOUT_PRIVACY: dict[str, dict[str, Any]] = {
    "privacy": {"sampling_rate": 0.1},
    "training": {
        "generator_width": 24,
        "spatial_noise": 0.0,
        "discriminator_width": 32,
        "discriminator_steps": 200,
        "discriminator_optimizer": "adam",
        "discriminator_learning_rate": 5e-4,
        "generator_learning_rate": 1e-3,
        "batch": 128,
        "anchor_weight": 6.0,
    },
}
"""What a run without privacy has for defaults: larger batches, and a discriminator that no noise disturbs.

Where the rounds do most of the work a wider generator would make them twice as long."""

OF_TASK: dict[str, dict[str, dict[str, Any]]] = {
    "segmentation": {
        "training": {"discriminator_width": 16, "ema_decay": 0.3},
        "mapping": {"adversarial_weight": 0.01},
    },
    "restoration": {
        "training": {"discriminator_width": 16, "ema_decay": 0.3},
        "mapping": {"adversarial_weight": 0.002},
    },
}
"""What a task has for defaults: its few rounds leave no time for a slow average."""

OF_TASK_PRIVATE: dict[str, dict[str, dict[str, Any]]] = {
    task: {
        "privacy": {"sampling_rate": 0.2, "max_images_per_patient": 1, "clip_norm": 0.1},
        "training": {"discriminator_steps": 15, "generator_learning_rate": 2e-2, "ema_decay": 0.5},
        "mapping": {"width": 4, "adversarial_weight": 0.0},
    }
    for task in ("segmentation", "restoration")
}
"""The same under privacy: noise in every weight asks for few weights, few steps and large batches."""

OF_TASK_WITHOUT_PRIVACY: dict[str, dict[str, dict[str, Any]]] = {
    task: {
        "privacy": {"sampling_rate": 0.01},
        "training": {"discriminator_steps": steps, "generator_learning_rate": 2e-3},
    }
    for task, steps in (("segmentation", 120), ("restoration", 150))
} | {"synthesis": {"training": {"spatial_noise": 0.1}}}
"""The same without privacy: small batches, as many steps as ten minutes allow; noise where images are new."""

LARGE_SIDE = 32
LARGE_IMAGES: dict[str, dict[str, Any]] = {
    "one_shot": {"iterations": 1000},
    "training": {"generator_width": 24},
}
"""What images of more than `LARGE_SIDE` pixels a side have for defaults: a step of theirs takes long."""


MANY_CLASSES = 8
_FAKES_OF_A_CLASS = 15
_BATCHES = (128, 256)


def of_many_classes(classes: int) -> dict[str, dict[str, Any]]:
    """What a study of `MANY_CLASSES` classes and more has for defaults, each of which is to be learned.

    Fakes of every class in a step, as far as its time allows, and many small steps, which come closer to what
    was released than few large ones.
    """
    if classes < MANY_CLASSES:
        return {}
    least, most = _BATCHES
    return {"one_shot": {"iterations": 3500, "batch": min(max(_FAKES_OF_A_CLASS * classes, least), most)}}


def defaults_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a study with the defaults of its public facts; what it says itself stays.

    The task's come first, then those of a study without privacy, of its images and of its classes.
    """
    privacy, data, task = body.get("privacy"), body.get("data"), str(body.get("task", "synthesis"))
    off = isinstance(privacy, Mapping) and privacy.get("mode") == "off"
    of_privacy = OF_TASK_WITHOUT_PRIVACY if off else OF_TASK_PRIVATE
    side = data.get("image_size") if isinstance(data, Mapping) else None
    large = isinstance(side, int) and side > LARGE_SIDE
    classes = data.get("classes") if isinstance(data, Mapping) else None
    tables = (
        of_privacy.get(task, {}),
        OF_TASK.get(task, {}),
        WITHOUT_PRIVACY if off else {},
        LARGE_IMAGES if large else {},
        of_many_classes(len(classes)) if isinstance(classes, list | tuple) else {},
    )
    for table in tables:
        body = with_defaults(body, table)
    return dict(body)


def with_defaults(body: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The body with these values in its sections where it has none; a section that is no table stays."""
    asked = {name: body.get(name, {}) for name in defaults}
    tables = {name: section for name, section in asked.items() if isinstance(section, Mapping)}
    return {**body, **{name: {**defaults[name], **section} for name, section in tables.items()}}
