"""A training round of a task whose fakes are made of patients: one clipped gradient, nothing beside it."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import client.training_on_patients
from client.asked import RoundResult
from client.round import local_round
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.evaluate.means import judged_sum, read_scores
from medgan_core.gan.losses import LOSSES
from medgan_core.gan.outputs import output_scores
from medgan_core.gan.task import PatientLoss, PatientTask
from medgan_core.messages import METRICS, Phase, metrics_of
from medgan_core.privacy.book_keeping import BookKeeper
from medgan_core.privacy.noise import Keystream, SeededRandom
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.seeds import Seeds
from medgan_core.tensors import load, seeded, weights_of
from tests.client import patient_tasks as tiny
from tests.client.taint import Taint

every_variant = pytest.mark.parametrize(("name", "mapping"), tiny.VARIANTS, ids=tiny.NAMES)
with_references = pytest.mark.parametrize(("name", "mapping"), tiny.VARIANTS[:4], ids=tiny.NAMES[:4])


def trained(
    name: str, mapping: dict[str, Any], of: Site | None = None, seed: int | None = 1, **changes: Any
) -> RoundResult:
    asked = tiny.study(name, mapping, **changes)
    request, plan = tiny.incoming(asked, Phase.TRAIN), PrivacyPlan.of(asked, "patient")
    random = Keystream() if seed is None else SeededRandom(seed)
    return local_round(asked, tiny.task_of(asked), plan, of or tiny.site(name), request, {}, Seeds(3), random)


@every_variant
def test_both_networks_move_and_only_the_number_of_steps_is_told(name: str, mapping: dict[str, Any]) -> None:
    result = trained(name, mapping)
    before = tiny.incoming(tiny.study(name, mapping), Phase.TRAIN).groups
    assert result.groups.keys() == {"generator", "discriminator"}
    for group, arrays in result.groups.items():
        assert arrays.keys() == before[group].keys()
        assert any(not np.array_equal(array, before[group][key]) for key, array in arrays.items())
    assert result.metrics == {"discriminator_steps": 2.0}
    assert set(result.metrics) == metrics_of(Phase.TRAIN, free_fakes=False) < METRICS[Phase.TRAIN]


@every_variant
def test_a_round_is_a_function_of_its_arguments_and_of_secret_noise(
    name: str, mapping: dict[str, Any]
) -> None:
    one, same, other = trained(name, mapping), trained(name, mapping), trained(name, mapping, seed=None)
    for group, arrays in one.groups.items():
        for key, array in arrays.items():
            assert np.array_equal(array, same.groups[group][key])
            assert not np.array_equal(array, other.groups[group][key])


@pytest.mark.parametrize("name", ["segmentation", "restoration"])
def test_a_wasserstein_critic_is_cut_and_the_network_beside_it_is_not(name: str) -> None:
    training = {"discriminator_width": 4, "discriminator_steps": 2, "precision": "float32"}
    result = trained(name, {}, training=training | {"loss": "wasserstein"})
    bound = LOSSES["wasserstein"].weight_bound
    largest = {
        group: max(float(np.abs(array).max()) for array in arrays.values())
        for group, arrays in result.groups.items()
    }
    assert largest["discriminator"] == pytest.approx(bound)
    assert largest["generator"] > bound


@every_variant
def test_a_generator_shared_alone_leaves_its_discriminator_at_the_site(
    name: str, mapping: dict[str, Any]
) -> None:
    result = trained(name, mapping, share="generator")
    assert result.groups.keys() == {"generator"}
    assert result.local.keys() == {"discriminator", "momentum"}


class Watched:
    """A round under a taint: how many networks left it with weights that images or labels touched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taint = Taint()
        self.left: list[nn.Module] = []

        def leaving(network: nn.Module) -> Any:
            self.left.append(network)
            return weights_of(network)

        self.taint.let_the_engine_through(monkeypatch)
        monkeypatch.setattr(client.training_on_patients, "weights_of", leaving)

    def run(self, name: str, mapping: dict[str, Any]) -> int:
        of = tiny.site(name)
        for tensor in (of.training.images, of.training.labels):
            self.taint.mark(tensor)
        with self.taint:
            trained(name, mapping, of)
        assert len(self.left) == 2
        return sum(any(map(self.taint.marked, network.parameters())) for network in self.left)


@every_variant
def test_patients_reach_weights_through_the_engine_alone(
    name: str, mapping: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    assert watched.run(name, mapping) == 0
    assert watched.taint.read == []


def writing(loss: PatientLoss) -> PatientLoss:
    """A leak into the generator's weights past all bookkeeping."""

    def leaky(networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor) -> Tensor:
        next(networks["generator"].parameters()).data += rows.mean()
        return loss(networks, frozen, rows, labels)

    return leaky


def reading(loss: PatientLoss) -> PatientLoss:
    """A leak through a Python number, which carries no mark: reading it is noted."""

    def leaky(networks: nn.ModuleDict, frozen: nn.ModuleDict, rows: Tensor, labels: Tensor) -> Tensor:
        return loss(networks, frozen, rows, labels) + float(rows.detach().mean())

    return leaky


@pytest.mark.parametrize(("leak", "touched"), [(writing, True), (reading, False)])
@pytest.mark.parametrize("name", ["segmentation", "restoration"])
def test_a_leaky_loss_of_patients_is_found_out(
    name: str, leak: Callable[[PatientLoss], PatientLoss], touched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, task_of = Watched(monkeypatch), tiny.task_of

    def leaky(study: Study) -> PatientTask:
        task = task_of(study)
        return replace(task, patient_loss=leak(task.patient_loss))

    monkeypatch.setattr(tiny, "task_of", leaky)
    assert bool(watched.run(name, {})) is touched
    assert bool(watched.taint.read) is not touched


@every_variant
def test_one_patient_moves_the_clipped_sum_of_all_networks_together_by_the_bound_at_most(
    name: str, mapping: dict[str, Any]
) -> None:
    asked = tiny.study(name, mapping)
    task, data, bound = tiny.task_of(asked), tiny.data(name, [2, 1, 3], 7), 0.7
    networks = nn.ModuleDict({"generator": task.make_generator(), "discriminator": task.make_discriminator()})
    frozen = deepcopy(networks).requires_grad_(False)
    rows = task.prepare(data.images, torch.Generator().manual_seed(0))

    def summed(kept: Tensor) -> list[Tensor]:
        def loss(network: nn.Module, part: Tensor, labels: Tensor) -> Tensor:
            return 1e3 * task.patient_loss(networks, frozen, part, labels)

        keeper = BookKeeper(networks)
        return keeper.clipped_sum(loss, rows[kept], data.labels[kept], data.owner[kept], bound)

    everyone, others = summed(data.owner >= 0), summed(data.owner > 0)
    moved = torch.stack([(a - b).norm() for a, b in zip(everyone, others, strict=True)]).norm()
    assert 0.5 * bound < moved <= bound * (1 + 1e-4)


@with_references
def test_the_generators_adversarial_term_teaches_the_discriminator_nothing(
    name: str, mapping: dict[str, Any]
) -> None:
    found = {}
    for weight in (0.1, 5.0):
        asked = tiny.study(name, mapping | {"adversarial_weight": weight})
        task, data = tiny.task_of(asked), tiny.data(name, [1, 1], 4)
        networks = nn.ModuleDict(
            {"generator": seeded(task.make_generator, 1), "discriminator": seeded(task.make_discriminator, 2)}
        )
        frozen = deepcopy(networks).requires_grad_(False)
        rows = task.prepare(data.images, torch.Generator().manual_seed(0))
        loss = task.patient_loss(networks, frozen, rows, data.labels).sum()
        found[weight] = {
            part: torch.autograd.grad(loss, list(networks[part].parameters()), retain_graph=True)
            for part in ("generator", "discriminator")
        }
    pairs = zip(found[0.1]["discriminator"], found[5.0]["discriminator"], strict=True)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in pairs)
    pairs = zip(found[0.1]["generator"], found[5.0]["generator"], strict=True)
    assert any(not torch.allclose(one, other, atol=1e-6) for one, other in pairs)


@with_references
def test_the_evaluation_is_one_noisy_sum_of_scores(name: str, mapping: dict[str, Any]) -> None:
    asked = tiny.study(name, mapping)
    task, of, plan = tiny.task_of(asked), tiny.site(name), PrivacyPlan.of(asked, "patient")
    request = tiny.incoming(asked, Phase.EVALUATE)
    quiet = replace(plan, evaluation_noise_multiplier=0.0)
    released = local_round(asked, task, quiet, of, request, {}, Seeds(3), SeededRandom(1))
    generator = task.make_generator()
    load(generator, request.groups["release"])
    scores = output_scores(task, generator, of.held_out.images).clamp(0, 1)
    expected = judged_sum(task.name, scores, of.held_out.labels, of.held_out.owner)
    [total] = released.groups["statistics"].values()
    assert total.shape == (asked.judged_size,)
    assert np.allclose(total, expected)
    means = torch.stack([scores[of.held_out.owner == patient].mean(0) for patient in range(3)]).mean(0)
    assert list(read_scores(task.name, torch.tensor(total)).values()) == pytest.approx(means.tolist())
    noisy = local_round(asked, task, plan, of, request, {}, Seeds(3), SeededRandom(1))
    assert not np.allclose(noisy.groups["statistics"]["scores"], expected)
