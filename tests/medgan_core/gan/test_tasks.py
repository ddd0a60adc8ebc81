"""The contract of every task: a new one is legal when these tests pass."""

from typing import get_args

import pytest
import torch
from torch import nn

from medgan_core.config import PATIENT_TASKS, Study, parse_study
from medgan_core.gan.losses import LOSSES
from medgan_core.gan.networks import size_of_latent
from medgan_core.gan.steps import balanced_labels
from medgan_core.gan.task import SynthesisTask, synthesis_of
from medgan_core.gan.tasks import TASKS, make_task
from medgan_core.privacy.book_keeping import BookKeeper
from medgan_core.tensors import seeded
from tests.medgan_core.gan.making import CLASSES, SIZES, images, make, networks, random

DRAWING = sorted(set(TASKS) - PATIENT_TASKS)
EVERY_TASK = [(name, channels, size) for name in DRAWING for channels, size in SIZES]
LABELS = balanced_labels(6, len(CLASSES))


@pytest.fixture(params=EVERY_TASK, ids=lambda given: "-".join(map(str, given)))
def task(request: pytest.FixtureRequest) -> SynthesisTask:
    return make(*request.param)


def private_networks(task: SynthesisTask) -> list[nn.Module]:
    by_name = dict(zip(("generator", "discriminator"), networks(task), strict=True))
    return [by_name[name] for name in task.private_networks]


def test_every_task_that_a_study_may_name_exists_under_its_name() -> None:
    assert set(TASKS) == set(get_args(Study.model_fields["task"].annotation))
    assert all(make(name).name == name for name in DRAWING)


def test_a_study_gets_the_task_that_it_names() -> None:
    study = parse_study({"name": "x", "data": {"kind": "npz", "path": "x"}, "training": {"latent_size": 3}})
    made = synthesis_of(make_task(study, (3, 32, 32), ("a", "b")))
    assert (made.name, made.image_shape, made.classes) == ("synthesis", (3, 32, 32), ("a", "b"))
    assert made.latent_size == size_of_latent(3, 32, study.training.spatial_noise)


def test_samples_are_images_between_minus_one_and_one(task: SynthesisTask) -> None:
    fakes = task.sample(networks(task)[0], LABELS, random())
    assert fakes.shape == (6, *task.image_shape)
    assert fakes.dtype == torch.float32
    assert fakes.abs().max() <= 1


def test_a_generator_in_training_has_the_precision_of_the_study_and_a_released_one_never() -> None:
    data = {"kind": "npz", "path": "x"}
    made = {}
    for precision in ("float32", "bfloat16"):
        asked = parse_study({"name": "x", "data": data, "training": {"precision": precision}})
        task = synthesis_of(make_task(asked, (1, 28, 28), ("a", "b", "c")))
        generator = seeded(task.make_generator, 0)
        made[precision] = [
            task.sample(mode(), LABELS, random(3)) for mode in (generator.eval, generator.train)
        ]
    released, trained = zip(made["float32"], made["bfloat16"], strict=True)
    assert trained[1].dtype == torch.float32
    assert 0 < (trained[0] - trained[1]).abs().max() < 0.1
    assert torch.equal(*released)


def test_samples_depend_on_the_given_stream_alone(task: SynthesisTask) -> None:
    generator = networks(task)[0].eval()
    with torch.no_grad():
        one, other = (task.sample(generator, LABELS, random(3)) for _ in range(2))
        third = task.sample(generator, LABELS, random(4))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


def test_losses_and_verdicts_are_one_value_an_example(task: SynthesisTask) -> None:
    judge, shown = networks(task)[1], images(task, 6)
    for loss in (task.real_loss, task.fake_loss, task.generator_loss):
        values = loss(judge, shown, LABELS)
        assert values.shape == (6,)
        assert values.isfinite().all()
    assert task.rejects(judge, shown, LABELS).dtype == torch.bool


def test_the_score_of_an_image_does_not_depend_on_its_batch(task: SynthesisTask) -> None:
    shown = images(task, 6)
    for network in private_networks(task):
        network.train()
        with torch.no_grad():
            together = task.real_loss(network, shown, LABELS)
            alone = torch.cat(
                [task.real_loss(network, shown[i : i + 1], LABELS[i : i + 1]) for i in range(6)]
            )
            other = task.real_loss(network, torch.cat([shown[:1], -shown[1:]]), LABELS)
        assert torch.allclose(together, alone, atol=1e-5)
        assert other[0] == pytest.approx(float(together[0]), abs=1e-5)


def test_a_private_network_has_no_state_but_its_weights(task: SynthesisTask) -> None:
    for network in private_networks(task):
        assert not list(network.buffers())
        assert not [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def test_the_engine_accepts_every_private_network(task: SynthesisTask) -> None:
    for network in private_networks(task):
        BookKeeper(network)


@pytest.mark.parametrize("name", DRAWING)
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_one_patient_moves_the_gradient_by_the_clipping_bound_at_most(name: str, loss: str) -> None:
    task = make(name, loss=loss)
    shown, owner = images(task, 6), torch.tensor([0, 0, 1, 1, 1, 2])

    def loss_of(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return task.real_loss(network, images, labels) * 1e3

    for network in private_networks(task):
        keeper, kept = BookKeeper(network), owner != 1
        whole = keeper.clipped_sum(loss_of, shown, LABELS, owner, 0.5)
        without = keeper.clipped_sum(loss_of, shown[kept], LABELS[kept], owner[kept], 0.5)
        moved = torch.cat([(a - b).flatten() for a, b in zip(whole, without, strict=True)]).norm()
        assert 0.49 < moved < 0.5 + 1e-4


@pytest.mark.parametrize("name", DRAWING)
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_verdict_is_by_the_boundary_of_the_loss(name: str, loss: str) -> None:
    task = make(name, loss=loss)

    class Fixed(nn.Module):
        def forward(self, shown: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return LOSSES[loss].boundary + torch.tensor([-0.1, 0.0, 0.1])

    rejected = task.rejects(Fixed(), images(task, 3), LABELS[:3])
    assert rejected.tolist() == [True, False, False]


@pytest.mark.parametrize("name", DRAWING)
def test_private_networks_are_among_the_known_ones(name: str) -> None:
    assert make(name).private_networks <= {"generator", "discriminator"}
    assert make(name).private_networks
