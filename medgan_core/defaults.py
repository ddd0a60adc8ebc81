"""Defaults that go by a study's public facts: whether it is private, and how large its images are."""

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

LARGE_SIDE = 32
LARGE_IMAGES: dict[str, dict[str, Any]] = {
    "one_shot": {"iterations": 1000},
    "training": {"generator_width": 24},
}
"""What images of more than `LARGE_SIDE` pixels a side have for defaults: a step of theirs takes long."""


def with_defaults(body: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The body with these values in its sections where it has none; a section that is no table stays."""
    asked = {name: body.get(name, {}) for name in defaults}
    tables = {name: section for name, section in asked.items() if isinstance(section, Mapping)}
    return {**body, **{name: {**defaults[name], **section} for name, section in tables.items()}}
