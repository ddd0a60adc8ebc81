"""The contract of a task whose fakes are made of patients' images: each example stands alone."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medgan_core.config import PATIENT_TASKS, MappingConfig, TrainingConfig
from medgan_core.gan.losses import LOSSES
from medgan_core.gan.outputs import output_scores
from medgan_core.gan.task import PatientTask
from medgan_core.gan.tasks import TASKS
from medgan_core.privacy.book_keeping import BookKeeper
from medgan_core.tensors import seeded
from tests.medgan_core.gan.making import random

VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((name, {}) for name in TASKS if name in PATIENT_TASKS),
    ("restoration", {"corruption": "mixed"}),
    ("translation", {"paired": False}),
    ("segmentation", {"adversarial_weight": 0.0}),
)
every_variant = pytest.mark.parametrize(("name", "mapping"), VARIANTS, ids=str)
CLASSES = ("a", "b")


def made(name: str, mapping: dict[str, Any], side: int = 32, loss: str = "non_saturating") -> PatientTask:
    training = TrainingConfig.model_validate({"discriminator_width": 4, "latent_size": 4, "loss": loss})
    asked = MappingConfig.model_validate({"width": 4, "adversarial_weight": 0.1} | mapping)
    channels = {"segmentation": 2, "translation": 2}.get(name, 1)
    task = TASKS[name](training, asked, (channels, side, side), CLASSES)
    assert isinstance(task, PatientTask)
    return task


def networks(task: PatientTask) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    both = nn.ModuleDict(
        {"generator": seeded(task.make_generator, 1), "discriminator": seeded(task.make_discriminator, 2)}
    )
    return both, deepcopy(both).requires_grad_(False)


def images(task: PatientTask, count: int = 4) -> Tensor:
    drawn = torch.rand(count, *task.image_shape, generator=random(3)) * 2 - 1
    if task.name == "segmentation":
        drawn[:, -1] = drawn[:, -1].sign()
    return drawn


@every_variant
@pytest.mark.parametrize("side", [32, 128])
def test_the_engine_accepts_all_networks_together(name: str, mapping: dict[str, Any], side: int) -> None:
    task = made(name, mapping, side)
    both, _ = networks(task)
    assert task.private_networks == {"generator", "discriminator"}
    BookKeeper(both)
    assert not list(both.buffers())


@every_variant
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_loss_is_one_value_an_example_of_its_own_image_alone(
    name: str, mapping: dict[str, Any], loss: str
) -> None:
    task = made(name, mapping, loss=loss)
    both, frozen = networks(task)
    rows, labels = task.prepare(images(task), random()), torch.tensor([0, 1, 0, 1])
    with torch.no_grad():
        together = task.patient_loss(both, frozen, rows, labels)
        pairs = zip(rows.split(1), labels.split(1), strict=True)
        alone = torch.cat([task.patient_loss(both, frozen, *pair) for pair in pairs])
        others = task.patient_loss(both, frozen, torch.cat([rows[:1], -rows[1:]]), labels)
    assert together.shape == (4,)
    assert together.isfinite().all()
    assert torch.allclose(together, alone, atol=1e-5)
    assert float(others[0]) == pytest.approx(float(together[0]), abs=1e-5)


@every_variant
def test_rows_are_made_of_their_own_image_by_the_stream_alone(name: str, mapping: dict[str, Any]) -> None:
    task = made(name, mapping)
    shown = images(task)
    rows = task.prepare(shown, random(5))
    assert torch.equal(rows, task.prepare(shown, random(5)))
    changed = torch.cat([shown[:2], -shown[2:]])
    assert torch.equal(rows[:2], task.prepare(changed, random(5))[:2])


@every_variant
def test_scores_are_bounded_and_do_not_depend_on_the_batch(name: str, mapping: dict[str, Any]) -> None:
    task = made(name, mapping)
    generator = networks(task)[0]["generator"].eval()
    rows = task.prepare(images(task), random())
    with torch.no_grad():
        together = task.scores(generator, rows)
        alone = torch.cat([task.scores(generator, row) for row in rows.split(1)])
    assert together.min() >= -1  # a structural similarity may be negative; it counts as 0 then
    assert together.max() <= 1
    assert torch.allclose(together, alone, atol=1e-5)


@every_variant
def test_of_no_image_there_are_no_scores_but_as_many_columns(name: str, mapping: dict[str, Any]) -> None:
    task = made(name, mapping)
    generator = networks(task)[0]["generator"]
    none, some = (output_scores(task, generator, images(task)[:count]) for count in (0, 2))
    assert (none.shape, none.dtype) == ((0, some.shape[1]), some.dtype)


@every_variant
def test_panels_show_images_between_minus_one_and_one(name: str, mapping: dict[str, Any]) -> None:
    task = made(name, mapping)
    rows = task.prepare(images(task), random())
    with torch.no_grad():
        panels = task.panels(networks(task)[0]["generator"].eval(), rows)
    assert len({title for title, _ in panels}) == len(panels)
    assert all(shown.shape[0] == 4 and shown.shape[2:] == (32, 32) for _, shown in panels)
    # what is spoiled by noise may leave the range
    assert all(shown.abs().max() <= 1 + 1e-6 for title, shown in panels if title != "input")


@pytest.mark.parametrize("name", ["segmentation", "restoration"])
@pytest.mark.parametrize("side", [32, 128])
def test_some_steps_on_an_image_lower_its_loss(name: str, side: int) -> None:
    task = made(name, {"adversarial_weight": 0.0}, side)
    both, frozen = networks(task)
    shown = torch.ones(1, *task.image_shape)
    shown[..., side // 2 :] = -1  # the mask of one half, or an edge
    rows = task.prepare(shown, random())
    rule = torch.optim.Adam(both.parameters(), 1e-2)
    found = []
    for _ in range(12):
        frozen.load_state_dict(both.state_dict())
        loss = task.patient_loss(both, frozen, rows, torch.tensor([0])).sum()
        rule.zero_grad()
        loss.backward()
        rule.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.9 * found[0]
