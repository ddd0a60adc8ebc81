"""U-Nets and discriminators: shapes, what a fold does, and which pixels a verdict is about."""

import pytest
import torch

from medgan_core.gan.mappers import Mapper, PatchDiscriminator, PixelDiscriminator, beside, fold_of
from medgan_core.tensors import seeded


@pytest.mark.parametrize("fold", [1, 2])
@pytest.mark.parametrize("side", [32, 64])
def test_an_output_is_as_large_as_its_input(fold: int, side: int) -> None:
    shown = torch.zeros(2, 3, side, side)
    assert Mapper(3, 2, 4, fold=fold)(shown).shape == (2, 2, side, side)
    assert PixelDiscriminator(3, 4, fold=fold)(shown).shape == (2, 1, side, side)
    assert PatchDiscriminator(3, 4)(shown).shape == (2, 1, side // 4 - 2, side // 4 - 2)


@pytest.mark.parametrize("width", [5, 6])
def test_a_width_that_four_does_not_divide_is_one_all_the_same(width: int) -> None:
    assert Mapper(1, 1, width)(torch.zeros(1, 1, 32, 32)).shape == (1, 1, 32, 32)


def test_a_residual_mapper_adds_the_first_channels_of_its_input() -> None:
    shown = torch.rand(2, 2, 32, 32)
    plain, residual = seeded(lambda: Mapper(2, 1, 4, fold=2), 0), seeded(_residual, 0)
    assert torch.allclose(residual(shown), plain(shown) + shown[:, :1])


def _residual() -> Mapper:
    return Mapper(2, 1, 4, residual=True, fold=2)


def test_large_images_alone_are_folded() -> None:
    assert [fold_of((1, side, side)) for side in (28, 64, 128)] == [1, 1, 2]


@pytest.mark.parametrize("fold", [1, 2])
def test_a_verdict_is_about_its_own_pixel_and_what_is_around_it(fold: int) -> None:
    judge = seeded(lambda: PixelDiscriminator(1, 4, fold=fold), 0)
    shown = torch.zeros(1, 1, 64, 64)
    touched = shown.clone()
    touched[0, 0, 32, 32] = 1.0
    with torch.no_grad():
        moved = (judge(touched) - judge(shown))[0, 0].abs() > 1e-9
    reach = 7 * fold + fold - 1
    rows, columns = moved.nonzero().unbind(1)
    assert moved[32, 32]
    for places in (rows, columns):
        assert places.min() >= 32 - reach
        assert places.max() <= 32 + reach


def test_what_is_judged_lies_beside_what_it_was_made_of() -> None:
    one, other = torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4)
    assert torch.equal(beside(one, other), torch.cat([one, other], 1))
