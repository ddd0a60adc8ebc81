"""Attacks find a twin that is overfitted on purpose, of either kind of task, and no patient is asked."""

import copy

import pytest
import torch
from torch import nn

from medgan_core.evaluate.attacks import twin
from medgan_core.evaluate.attacks.attacker import ON_SYNTHESIS
from medgan_core.evaluate.attacks.twin import twin_aucs
from tests.medgan_core.evaluate.attacks.making import (
    SEEDS,
    by_heart,
    generator_of,
    patient_task,
    patients,
    task_of,
)

TASK, ROOMY = task_of(), task_of(width=16)


@pytest.fixture(scope="module")
def learnt() -> nn.Module:
    """A generator that draws shapes of many kinds, with room to know 64 images by heart."""
    return by_heart(ROOMY, *patients(7, count=300)[0], steps=150)


def test_the_twin_of_a_generator_is_found_by_every_attack(learnt: nn.Module) -> None:
    before = copy.deepcopy(learnt.state_dict())
    found = twin_aucs(ROOMY, learnt, ON_SYNTHESIS, SEEDS)
    assert tuple(found) == ON_SYNTHESIS
    assert all(0.65 <= auc <= 1 for auc in found.values())
    assert all(torch.equal(value, before[name]) for name, value in learnt.state_dict().items())


def test_the_same_seeds_give_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STEPS", "JUDGE_STEPS"):
        monkeypatch.setattr(twin, name, 5)
    generator = generator_of(TASK)
    state = torch.get_rng_state()
    asked = ("discriminator", "nearest")
    found = [twin_aucs(TASK, generator, asked, seeds) for seeds in (SEEDS, SEEDS, SEEDS.child("b"))]
    assert found[0] == found[1] != found[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_without_discriminators_theirs_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin, "STEPS", 1)
    assert twin_aucs(TASK, generator_of(TASK), ("discriminator",), SEEDS, discriminators=False) == {
        "discriminator": 0.5
    }


def test_a_twin_that_learnt_nothing_is_not_found(learnt: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control has a control: it is the overfitting that the attacks find."""
    for name in ("STEPS", "JUDGE_STEPS"):
        monkeypatch.setattr(twin, name, 1)
    found = twin_aucs(ROOMY, learnt, ON_SYNTHESIS, SEEDS)
    assert all(abs(auc - 0.5) < 0.16 for auc in found.values())


@pytest.mark.parametrize("name", ["segmentation", "translation", "anomaly"])
def test_the_twin_of_a_network_that_works_on_images_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twin, "PATIENT_STEPS", 80)
    task = patient_task(name)
    assert twin_aucs(task, task.make_generator(), ("loss",), SEEDS)["loss"] >= 0.65


@pytest.mark.parametrize("name", ["restoration"])
def test_every_task_has_a_twin(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin, "PATIENT_STEPS", 2)
    task = patient_task(name)
    assert 0 <= twin_aucs(task, task.make_generator(), ("loss",), SEEDS)["loss"] <= 1
