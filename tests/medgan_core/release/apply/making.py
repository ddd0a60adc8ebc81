"""Small releases of the tasks that work on images, whose networks know nothing; and what they make."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from PIL import Image
from torch import Tensor, nn

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.data.pacs.headers import quiet
from medgan_core.gan.task import ImageShape, PatientTask
from medgan_core.gan.tasks.restoration import restoration
from medgan_core.messages import Array
from medgan_core.release.apply.damage import Damage
from medgan_core.release.apply.model import Model
from medgan_core.release.apply.pictures import Made, Origin
from medgan_core.release.bundle import Release
from medgan_core.release.purposes import Purpose
from tests.medgan_core.release.making import CARD, build

SIDE = 32
CHANNELS = {"segmentation": 2, "restoration": 1, "translation": 2, "anomaly": 1}
ORIGIN = Origin("tiny", "5d" * 32, "0.1.0", "restored, noise 0.1", "lung")


def release(
    folder: Path,
    task: str,
    changes: Mapping[str, Any] | None = None,
    *,
    still: bool = False,
    channels: int | None = None,
) -> Release:
    """A release of a task for images of 32×32 with `channels`; `changes` are keys of its study.

    A `still` one has weights of 0: restoration and translation then change nothing, since they are residual.
    """
    settings = {"task": task, "data.image_size": SIDE, "mapping.width": 4, **(changes or {})}
    shape = (channels or CHANNELS[task], SIDE, SIDE)

    def kept(array: Array) -> Array:
        return array * 0 if still else array

    return build(folder, settings, card=replace(CARD, image_shape=shape), of_weights=kept)


def still_model(folder: Path, task: str, damage: Damage | None = None, **changes: Any) -> Model:
    """The model of a still release, on the CPU."""
    if task == "restoration":
        damage = damage or Damage("noise", 0.1)
        changes = {"mapping.corruption": damage.corruption, **changes}
    return Model(release(folder, task, changes, still=True), torch.device("cpu"), damage)


def brightness(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> PatientTask:
    """A task that takes bright pixels for abnormal ones: it stands in for one that was trained."""
    task = restoration(training, mapping, image_shape, classes)
    return replace(
        task,
        name="anomaly",
        make_generator=lambda: nn.Conv2d(1, 1, 1),
        apply=lambda network, images: images,
        scores=lambda network, rows: (rows.flatten(1).mean(1, keepdim=True) + 1) / 2,
    )


def made(purpose: Purpose, outputs: Tensor, **rest: Any) -> Made:
    """Outputs [n, k, h, w] as those of a network."""
    return Made(purpose, outputs, ORIGIN, **rest)


def bright(images: Tensor) -> Tensor:
    """The mask of what is bright, as a network would give it."""
    return torch.where(images.mean(1, keepdim=True) > 0, 0.9, -0.9)


def written(files: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    with quiet():
        found = list(files)
    assert len({name for name, _ in found}) == len(found)
    return dict(found)


def raster(body: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(body)))


def dataset(body: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(body))
