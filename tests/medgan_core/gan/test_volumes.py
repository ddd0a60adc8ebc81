"""Networks of volumes: any depth, one latent for all slices, and nothing that mixes examples.

The contract of every task runs for them in `test_tasks.py`; here it runs for volumes as thick as real ones.
"""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from medgan_core.gan.networks import calibrate
from medgan_core.gan.volumes import VolumeDiscriminator, VolumeGenerator, grids
from medgan_core.privacy.book_keeping import BookKeeper
from medgan_core.tensors import seeded, state_of
from tests.medgan_core.gan.making import images, make, networks, random

SHAPES = [(8, 28), (17, 32), (32, 32), (9, 64), (8, 128)]
LABELS = torch.tensor([0, 1])


def generator(depth: int, side: int) -> VolumeGenerator:
    made = seeded(lambda: VolumeGenerator(2, depth, side, 3, 4), 0)
    assert isinstance(made, VolumeGenerator)
    return made


def latent(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, generator=random(seed))


@pytest.mark.parametrize(("depth", "side"), SHAPES)
def test_every_depth_and_side_has_volumes_and_scores(depth: int, side: int) -> None:
    assert grids(depth, side)[-1] == (depth, side, side)
    judge = seeded(lambda: VolumeDiscriminator(2, depth, side, 4), 1)
    with torch.no_grad():
        volumes = generator(depth, side)(latent(), LABELS)
        scores = judge(volumes, LABELS)
    assert volumes.shape == (2, depth, side, side)
    assert volumes.abs().max() <= 1
    assert scores.shape == (2,)
    BookKeeper(judge)


@pytest.mark.parametrize("width", [5, 6])
def test_a_width_that_four_does_not_divide_is_one_all_the_same(width: int) -> None:
    with torch.no_grad():
        assert VolumeGenerator(2, 8, 28, 3, width)(latent(), LABELS).shape == (2, 8, 28, 28)


def test_one_latent_decides_on_all_slices() -> None:
    made = generator(16, 32)
    one, other = latent(0), latent(1)
    with torch.no_grad():
        first, second = made(one, LABELS), made(other, LABELS)
        moved = made(torch.cat([one[:1], other[1:]]), LABELS)
    assert torch.allclose(moved[0], first[0], atol=1e-6)
    assert torch.allclose(moved[1], second[1], atol=1e-6)
    assert bool(((first - second).abs().amax(dim=(2, 3)) > 0).all())


def test_the_last_slice_counts_for_the_discriminator_however_many_there_are() -> None:
    for depth in (8, 9, 17):
        judge = seeded(partial(VolumeDiscriminator, 1, depth, 32, 4), 0)
        volumes = torch.zeros(2, depth, 32, 32)
        volumes[1, -1] = 1
        with torch.no_grad():
            scores = judge(volumes, torch.zeros(2, dtype=torch.int64))
        assert scores[0] != scores[1]


def test_one_patient_moves_the_gradient_by_the_clipping_bound_at_most() -> None:
    task = make("volume", 16, 32)
    judge, shown, labels = networks(task)[1], images(task, 4), torch.tensor([0, 1, 2, 0])
    owner, kept = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 3])

    def loss(network: nn.Module, volumes: Tensor, of: Tensor) -> Tensor:
        return task.real_loss(network, volumes, of) * 1e3

    keeper = BookKeeper(judge)
    whole = keeper.clipped_sum(loss, shown, labels, owner, 0.5)
    without = keeper.clipped_sum(loss, shown[kept], labels[kept], owner[kept], 0.5)
    moved = torch.cat([(a - b).flatten() for a, b in zip(whole, without, strict=True)]).norm()
    assert 0.49 < moved < 0.5 + 1e-4


def test_volumes_are_drawn_a_few_at_a_time_as_all_at_once() -> None:
    task = make("volume", 16, 32)
    made, labels = networks(task)[0].eval(), torch.zeros(11, dtype=torch.int64)
    with torch.no_grad():
        drawn = task.sample(made, labels, random(5))
        together = made(torch.randn(11, task.latent_size, generator=random(5)), labels)
    assert drawn.shape == (11, 16, 32, 32)
    assert torch.allclose(drawn, together, atol=1e-6)


def test_a_generator_without_statistics_has_nothing_to_calibrate() -> None:
    made = generator(8, 28)
    before = {name: array.copy() for name, array in state_of(made).items()}
    calibrate(made.train(), latent(), LABELS)
    assert not made.training
    assert all((before[name] == array).all() for name, array in state_of(made).items())
