import pytest
import torch
from torch import nn

from medgan_core.gan.networks import Discriminator, Generator, calibrate, size_of_latent, upsamplings
from medgan_core.gan.steps import balanced_labels
from medgan_core.tensors import seeded
from tests.medgan_core.gan.making import SIZES, random


def generator(channels: int = 1, size: int = 28) -> nn.Module:
    return seeded(lambda: Generator(3, channels, size, 5, 4), 0)


def latent(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 5, generator=random(seed))


@pytest.mark.parametrize(("channels", "size"), SIZES)
def test_a_generator_draws_images_of_its_size_between_minus_one_and_one(channels: int, size: int) -> None:
    images = generator(channels, size)(latent(6) * 100, balanced_labels(6, 3))
    assert images.shape == (6, channels, size, size)
    assert images.abs().max() <= 1


@pytest.mark.parametrize(("channels", "size"), SIZES)
def test_a_generator_with_noise_in_its_grids_learns_how_much(channels: int, size: int) -> None:
    made = seeded(lambda: Generator(3, channels, size, 5, 4, spatial_noise=0.1), 0).eval()
    whole = size_of_latent(5, size, 0.1)
    assert 5 + size**2 > whole >= 5 + (size // 2) ** 2
    drawn = torch.randn(2, whole, generator=random()).requires_grad_()
    images = made(drawn, balanced_labels(2, 3))
    images.square().sum().backward()
    assert drawn.grad is not None
    assert drawn.grad.abs().min() > 0
    strengths = [p.grad for name, p in made.named_parameters() if name.startswith("strengths")]
    assert len(strengths) == upsamplings(size)[0]
    assert all(found is not None and found.abs().min() > 0 for found in strengths)


def test_without_noise_the_latent_is_what_the_study_says() -> None:
    assert size_of_latent(5, 28, 0.0) == 5
    assert not [name for name, _ in generator().named_parameters() if name.startswith("strengths")]


@pytest.mark.parametrize(("channels", "size"), SIZES)
def test_a_discriminator_gives_one_score_an_image(channels: int, size: int) -> None:
    scores = Discriminator(3, channels, size, 4)(torch.zeros(5, channels, size, size), balanced_labels(5, 3))
    assert scores.shape == (5,)


@pytest.mark.parametrize(("size", "expected"), [(28, (2, 7)), (32, (2, 8)), (64, (3, 8)), (128, (4, 8))])
def test_the_first_grid_is_doubled_up_to_the_size(size: int, expected: tuple[int, int]) -> None:
    assert upsamplings(size) == expected
    assert expected[1] * 2 ** expected[0] == size


def test_the_label_matters_to_both_networks() -> None:
    made, judge = generator().eval(), seeded(lambda: Discriminator(3, 1, 28, 4), 1)
    z, images = latent(1).repeat(3, 1), torch.zeros(3, 1, 28, 28)
    labels = torch.arange(3)
    drawn, scores = made(z, labels), judge(images, labels)
    assert not torch.allclose(drawn[0], drawn[1])
    assert len(set(scores.tolist())) == 3


def test_each_score_is_trained_by_its_own_image_alone() -> None:
    images = torch.rand(4, 1, 28, 28, generator=random()).requires_grad_()
    scores = Discriminator(3, 1, 28, 4)(images, balanced_labels(4, 3))
    (gradient,) = torch.autograd.grad(scores[2], images)
    assert gradient[2].abs().sum() > 0
    assert gradient[[0, 1, 3]].abs().sum() == 0


@torch.no_grad()
def test_a_calibrated_generator_draws_as_it_did_in_training() -> None:
    made, labels = generator(), balanced_labels(512, 3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.5)
    z = latent(512)
    far = (made.eval()(z, labels) - made.train()(z, labels)).abs().mean()
    calibrate(made, latent(4096, 1), balanced_labels(4096, 3))
    near = (made(z, labels) - made.train()(z, labels)).abs().mean()
    assert near < 0.02
    assert near < far / 5


def test_calibration_ends_in_evaluation_and_changes_no_weight() -> None:
    made = generator()
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    calibrate(made, latent(32), balanced_labels(32, 3))
    assert not made.training
    assert all(torch.equal(p, before[name]) for name, p in made.named_parameters())


def test_calibration_depends_on_its_fakes_alone() -> None:
    one, other = generator(), generator()
    other(latent(8, 7) * 9, balanced_labels(8, 3))  # whatever it saw before
    for made in (one, other):
        calibrate(made, latent(64), balanced_labels(64, 3))
        calibrate(made, latent(64), balanced_labels(64, 3))  # twice is as once
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
