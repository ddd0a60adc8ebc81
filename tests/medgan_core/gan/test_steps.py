import numpy as np
import pytest
import torch
from torch import Tensor, nn, optim

from medgan_core.gan.steps import LADDER, Rhythm, balanced_labels, generator_step, labels_to_match
from medgan_core.gan.task import SynthesisTask
from medgan_core.tensors import weights_of
from tests.medgan_core.gan.making import CLASSES, make, networks, random

LABELS = balanced_labels(12, len(CLASSES))


def brightness(fakes: Tensor, labels: Tensor) -> Tensor:
    """An anchor: how far the fakes are from white."""
    return (1 - fakes).square().mean()


def same(one: nn.Module, before: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]) -> bool:
    return all(np.array_equal(array, before[name]) for name, array in weights_of(one).items())


@pytest.fixture(scope="module")
def task() -> SynthesisTask:
    return make()


# The generator's step


def test_a_step_moves_the_generator_and_nothing_else(task: SynthesisTask) -> None:
    generator, discriminator = networks(task)
    discriminator(torch.zeros(1, *task.image_shape), LABELS[:1]).sum().backward()
    gradients = [p.grad.clone() for p in discriminator.parameters() if p.grad is not None]
    before = weights_of(generator), weights_of(discriminator)
    optimizer = optim.SGD(generator.parameters(), 0.1)
    loss = generator_step(task, generator, discriminator, optimizer, LABELS, random(), anchor=brightness)
    assert np.isfinite(loss)
    assert not same(generator, before[0])
    assert same(discriminator, before[1])
    after = [p.grad for p in discriminator.parameters() if p.grad is not None]
    assert all(torch.equal(one, other) for one, other in zip(gradients, after, strict=True))
    assert all(p.requires_grad for p in discriminator.parameters())


def test_a_step_leaves_no_gradient_at_a_discriminator_without_one(task: SynthesisTask) -> None:
    generator, discriminator = networks(task)
    generator_step(task, generator, discriminator, optim.SGD(generator.parameters(), 0.1), LABELS, random())
    assert all(p.grad is None for p in discriminator.parameters())


def test_gradients_do_not_add_up_over_steps(task: SynthesisTask) -> None:
    generator, discriminator = networks(task)
    still = optim.SGD(generator.parameters(), 0.0)
    found = []
    for _ in range(2):
        generator_step(task, generator, discriminator, still, LABELS, random())
        found.append([p.grad.clone() for p in generator.parameters() if p.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_loss_is_the_discriminators_and_the_anchors_weighted(task: SynthesisTask) -> None:
    generator, discriminator = networks(task)
    still = optim.SGD(generator.parameters(), 0.0)

    def loss(judge: nn.Module | None, anchor: bool, weight: float = 1.0) -> float:
        aim = brightness if anchor else None
        return generator_step(
            task, generator, judge, still, LABELS, random(), anchor=aim, anchor_weight=weight
        )

    alone, towards = loss(discriminator, False), loss(None, True)
    assert loss(discriminator, True, 3.0) == pytest.approx(alone + 3 * towards, rel=1e-5)
    assert loss(discriminator, True, 0.0) == pytest.approx(alone)


def test_steps_lower_the_loss(task: SynthesisTask) -> None:
    generator, discriminator = networks(task)
    optimizer = optim.Adam(generator.parameters(), 1e-2)
    losses = [generator_step(task, generator, discriminator, optimizer, LABELS, random()) for _ in range(15)]
    assert losses[-1] < losses[0]


def test_the_same_stream_gives_the_same_step(task: SynthesisTask) -> None:
    results = []
    for _ in range(2):
        generator, discriminator = networks(task)
        generator_step(
            task, generator, discriminator, optim.SGD(generator.parameters(), 0.1), LABELS, random(4)
        )
        results.append(weights_of(generator))
    assert all(np.array_equal(results[0][name], results[1][name]) for name in results[0])


# Labels


@pytest.mark.parametrize(("count", "classes"), [(12, 3), (13, 3), (64, 10), (1, 2)])
def test_labels_of_fakes_are_balanced(count: int, classes: int) -> None:
    counts = balanced_labels(count, classes).bincount(minlength=classes)
    assert counts.sum() == count
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("batch", "classes", "expected"), [(128, 10, 128), (64, 62, 124), (2, 3, 6)])
def test_of_however_many_classes_each_has_two_fakes_to_match(batch: int, classes: int, expected: int) -> None:
    labels = labels_to_match(batch, classes)
    assert len(labels) == expected
    assert labels.bincount(minlength=classes).min() >= 2


# The rhythm


def test_a_fixed_rhythm_hears_nothing() -> None:
    rhythm = Rhythm(3, adaptive=False)
    for rejected in (0.0, 1.0):
        rhythm.hear(rejected)
    assert rhythm.every == 3
    assert [step for step in range(1, 10) if rhythm.due(step)] == [3, 6, 9]


def test_a_weak_discriminator_climbs_the_ladder_to_its_top() -> None:
    rhythm, heard = Rhythm(1, adaptive=True), []
    for _ in range(8):
        rhythm.hear(0.59)
        heard.append(rhythm.every)
    assert heard == [*LADDER[1:], 100, 100]


def test_a_strong_discriminator_descends_to_one_to_one() -> None:
    rhythm, heard = Rhythm(100, adaptive=True), []
    for _ in range(8):
        rhythm.hear(0.81)
        heard.append(rhythm.every)
    assert heard == [*reversed(LADDER[:-1]), 1, 1]


@pytest.mark.parametrize("rejected", [0.6, 0.7, 0.8])
def test_a_good_discriminator_changes_nothing(rejected: float) -> None:
    rhythm = Rhythm(5, adaptive=True)
    rhythm.hear(rejected)
    assert rhythm.every == 5


def test_a_start_between_or_above_the_rungs_goes_to_the_next_rung() -> None:
    for every, rejected, expected in [(3, 0.1, 5), (3, 0.9, 2), (200, 0.1, 200), (200, 0.9, 100)]:
        rhythm = Rhythm(every, adaptive=True)
        rhythm.hear(rejected)
        assert rhythm.every == expected
