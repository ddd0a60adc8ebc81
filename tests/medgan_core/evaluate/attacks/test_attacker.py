"""Attacks find a generator that remembers, do not find one that never saw, and bins lose little."""

import copy

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.errors import ConfigError
from medgan_core.evaluate.attacks import attacker as building
from medgan_core.evaluate.attacks import references
from medgan_core.evaluate.attacks.attacker import ON_SYNTHESIS, Attacker, attacker_of
from medgan_core.evaluate.attacks.bins import BINS, attack_sum
from medgan_core.evaluate.attacks.figures import AttackFigures, read_attacks
from medgan_core.gan.task import synthesis_of
from medgan_core.gan.tasks import TASKS
from tests.medgan_core.evaluate.attacks.making import (
    CLASSES,
    CPU,
    MEMBERS,
    SEEDS,
    by_heart,
    generator_of,
    judge_of,
    patient_task,
    patients,
    task_of,
)

TASK = task_of()
MINE, OTHERS, MORE = patients(1, 2, 3)


@pytest.fixture(scope="module")
def overfitted() -> Attacker:
    judges = [judge_of(TASK, *OTHERS, steps=1), judge_of(TASK, *MINE)]
    return attacker_of(TASK, by_heart(TASK, *MINE), judges, ON_SYNTHESIS, SEEDS, CPU)


@pytest.fixture(scope="module")
def untrained() -> Attacker:
    return attacker_of(TASK, generator_of(TASK), [generator_free_judge()], ON_SYNTHESIS, SEEDS, CPU)


def generator_free_judge() -> nn.Module:
    return judge_of(TASK, *MORE, steps=20)


def attacked(
    attacker: Attacker, members: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor]
) -> AttackFigures:
    """As a coordinator reads them of sites that add no noise."""
    owner = torch.arange(MEMBERS)
    sums = [attack_sum(attacker.cells(*each), owner, owner % 2).numpy() for each in (members, others)]
    return read_attacks(attacker.attacks, sums[0], sums[1], 0.0, 0.0)


def test_every_attack_finds_the_members_of_a_generator_that_remembers(overfitted: Attacker) -> None:
    found = attacked(overfitted, MINE, OTHERS)
    assert {each.name: each.auc > 0.65 and each.low > 0.5 for each in found.figures} == dict.fromkeys(
        ON_SYNTHESIS, True
    )
    assert all(each.control_low <= 0.5 <= each.control_high for each in found.figures)


def test_bins_lose_little_of_what_scores_tell(overfitted: Attacker) -> None:
    scores = torch.cat([overfitted.scores(*each) for each in (MINE, OTHERS)])
    truth = [1] * MEMBERS + [0] * MEMBERS
    binned = attacked(overfitted, MINE, OTHERS).figures
    for column, figure in zip(scores.T, binned, strict=True):
        assert figure.auc > roc_auc_score(truth, column) - 0.08


def test_patients_whom_nobody_was_trained_on_are_all_the_same(
    overfitted: Attacker, untrained: Attacker
) -> None:
    for attacker in (overfitted, untrained):
        for figure in attacked(attacker, OTHERS, MORE if attacker is overfitted else MINE).figures:
            assert abs(figure.auc - 0.5) < 3 * figure.deviation


def test_the_same_seeds_make_the_same_attacker_and_others_another() -> None:
    generator, judge = generator_of(TASK), generator_free_judge()
    made = [attacker_of(TASK, generator, [judge], ON_SYNTHESIS, seeds, CPU) for seeds in (SEEDS, SEEDS)]
    assert torch.equal(made[0].edges, made[1].edges)
    assert torch.equal(made[0].scores(*MINE), made[1].scores(*MINE))
    other = attacker_of(TASK, generator, [judge], ON_SYNTHESIS, SEEDS.child("other"), CPU)
    assert not torch.equal(made[0].edges, other.edges)


def test_an_image_is_scored_by_itself(overfitted: Attacker) -> None:
    """Up to the rounding of sums, whatever images come along: a patient moves no other patient's cell."""
    whole = overfitted.scores(*OTHERS)
    alone = torch.cat([overfitted.scores(OTHERS[0][i : i + 1], OTHERS[1][i : i + 1]) for i in range(5)])
    assert torch.allclose(whole[:5], alone, atol=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_a_damaged_image_has_cells_and_moves_no_other(overfitted: Attacker, value: float) -> None:
    images, labels = MINE[0][:4].clone(), MINE[1][:4]
    images[1] = value
    cells = overfitted.cells(images, labels)
    assert cells.shape == (4, 4)
    assert cells.dtype == torch.int64
    assert 0 <= int(cells.min()) <= int(cells.max()) < BINS
    kept = [0, 2, 3]
    clean = overfitted.cells(MINE[0][:4], labels)
    assert torch.equal(cells[kept], clean[kept])


def test_scores_that_are_no_numbers_are_in_range() -> None:
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, 5.5, 1e300], dtype=torch.float64)
    edges = torch.arange(BINS - 1, dtype=torch.float64)[None]
    attacker = Attacker(("any",), (lambda images, labels: values,), edges, CPU)
    cells = attacker.cells(torch.zeros(6, 1, 4, 4), torch.zeros(6, dtype=torch.int64))
    assert cells[:, 0].tolist() == [0, 11, 0, 0, 6, 11]


def test_a_generator_that_draws_nan_has_an_attacker() -> None:
    class Broken(nn.Module):
        def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
            return latent.sum(dim=1)[:, None, None, None].expand(-1, *TASK.image_shape) * float("nan")

    attacker = attacker_of(TASK, Broken(), [], ON_SYNTHESIS, SEEDS, CPU)
    cells = attacker.cells(MINE[0][:3], MINE[1][:3])
    assert attacker.edges.isfinite().all()
    assert 0 <= int(cells.min()) <= int(cells.max()) < BINS


def test_networks_stay_as_they_were() -> None:
    generator, judge = generator_of(TASK).train(), generator_free_judge()
    before = copy.deepcopy((generator.state_dict(), judge.state_dict()))
    attacker_of(TASK, generator, [judge], ON_SYNTHESIS, SEEDS, CPU).cells(MINE[0][:2], MINE[1][:2])
    for network, state in zip((generator, judge), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
        assert all(p.requires_grad for p in network.parameters())
    assert generator.training
    assert all(p.grad is None for p in generator.parameters())


def test_without_discriminators_their_attack_tells_nothing() -> None:
    attacker = attacker_of(TASK, generator_of(TASK), [], ("discriminator",), SEEDS, CPU)
    assert not attacker.scores(*MINE).any()
    assert len(attacker.cells(*MINE).unique()) == 1


def test_only_the_attacks_that_are_asked_for_are_tried_in_their_order() -> None:
    attacker = attacker_of(TASK, generator_of(TASK), [], ("density", "nearest"), SEEDS, CPU)
    assert attacker.attacks == ("density", "nearest")
    assert attacker.cells(MINE[0][:0], MINE[1][:0]).shape == (0, 2)
    assert attacker_of(TASK, generator_of(TASK), [], (), SEEDS, CPU).cells(*MINE).shape == (MEMBERS, 0)


def test_attacks_of_another_kind_of_task_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.attacks = \['loss'\]"):
        attacker_of(TASK, generator_of(TASK), [], ("loss",), SEEDS, CPU)
    mapper = patient_task("segmentation")
    with pytest.raises(ConfigError, match="expected of loss"):
        attacker_of(mapper, mapper.make_generator(), [], ("nearest",), SEEDS, CPU)


@pytest.mark.parametrize(
    ("name", "shape"), [("synthesis", (3, 32, 32)), ("multimodal", (2, 64, 64)), ("volume", (16, 32, 32))]
)
def test_images_of_other_shapes_have_cells(
    name: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "_NUMBERS", 2**18)
    monkeypatch.setattr(building, "_NUMBERS", 0)
    monkeypatch.setattr(building, "_LEAST_STAND_INS", 8)
    monkeypatch.setattr(references, "_LEAST_OF_A_LABEL", 32)
    asked = TrainingConfig(latent_size=4, generator_width=4, discriminator_width=4, precision="float32")
    task = synthesis_of(TASKS[name](asked, MappingConfig(), shape, CLASSES))
    made = attacker_of(task, generator_of(task), [task.make_discriminator()], ON_SYNTHESIS, SEEDS, CPU)
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cells = made.cells(images, torch.tensor([0, 1, 1]))
    assert cells.shape == (3, 4)
    assert made.edges.isfinite().all()
    assert (made.edges.diff(dim=1) >= 0).all()
