"""Scores beside torchmetrics and MONAI, and by hand where both have no answer."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics.meandice import compute_dice
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from medgan_core.gan.scores import (
    LARGEST_PSNR,
    body_of,
    mask_scores,
    psnr,
    psnr_share,
    scores_in,
    squared_error,
    ssim,
)
from tests.medgan_core.gan.making import random


def pair(seed: int, count: int = 3, side: int = 24) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, 1, side, side, generator=random(seed)) * 2 - 1
    return images, (images + 0.2 * torch.randn(images.shape, generator=random(seed + 1))).clamp(-1, 1)


def square(top: int, left: int, size: int, side: int = 24) -> Tensor:
    mask = torch.zeros(1, 1, side, side, dtype=torch.bool)
    mask[:, :, top : top + size, left : left + size] = True
    return mask


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_images_are_scored_as_torchmetrics_does_one_by_one(seed: int) -> None:
    references, images = pair(seed)
    for one, image, reference in zip(range(3), images.split(1), references.split(1), strict=True):
        expected = float(peak_signal_noise_ratio(image, reference, data_range=(-1.0, 1.0)))
        assert float(psnr(images, references)[one]) == pytest.approx(expected, abs=1e-3)
        wanted = structural_similarity_index_measure(image, reference, data_range=2.0)
        assert float(ssim(images, references)[one]) == pytest.approx(float(wanted), abs=1e-5)


def test_errors_are_shares_of_the_range() -> None:
    black, white = -torch.ones(2, 1, 16, 16), torch.ones(2, 1, 16, 16)
    assert squared_error(black, white).tolist() == [1, 1]
    assert psnr(black, white).tolist() == [0, 0]
    half = torch.zeros(2, 1, 16, 16)
    assert squared_error(half, white).tolist() == [0.25, 0.25]
    assert psnr(half, white).tolist() == pytest.approx([20 * math.log10(2)] * 2)


def test_a_perfect_image_has_the_largest_psnr_and_a_share_of_one() -> None:
    images, _ = pair(4)
    assert psnr(images, images).tolist() == [LARGEST_PSNR] * 3
    assert psnr_share(images, images).tolist() == [1, 1, 1]
    assert ssim(images, images).tolist() == pytest.approx([1, 1, 1])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_dice_is_monais_and_iou_follows_from_it(seed: int) -> None:
    found, reference = (torch.rand(3, 1, 16, 16, generator=random(seed + i)) > 0.6 for i in range(2))
    scores = mask_scores(found, reference)
    dice = compute_dice(found.float(), reference.float()).flatten().double()
    assert torch.allclose(scores[:, 0], dice, atol=1e-6)
    assert torch.allclose(scores[:, 1], dice / (2 - dice), atol=1e-6)
    assert scores.min() >= 0
    assert scores.max() <= 1


def test_a_shifted_square_by_hand() -> None:
    [[dice, iou, far]] = mask_scores(square(4, 4, 8), square(4, 8, 8)).tolist()
    assert dice == pytest.approx(0.5)
    assert iou == pytest.approx(1 / 3)
    assert far == pytest.approx(4 / math.hypot(24, 24), rel=1e-5)


def test_empty_masks_agree_with_each_other_alone() -> None:
    empty, some = torch.zeros(1, 1, 24, 24, dtype=torch.bool), square(4, 4, 8)
    assert mask_scores(empty, empty).tolist() == [[1, 1, 0]]
    assert mask_scores(empty, some).tolist() == [[0, 0, 1]]
    assert mask_scores(some, empty).tolist() == [[0, 0, 1]]
    assert mask_scores(some, some).tolist() == [[1, 1, 0]]


def test_masks_of_a_batch_are_scored_one_by_one() -> None:
    found = torch.cat([square(4, 4, 8), square(0, 0, 24), torch.zeros(1, 1, 24, 24, dtype=torch.bool)])
    reference = torch.cat([square(4, 8, 8), square(2, 2, 5), square(1, 1, 2)])
    alone = torch.cat([mask_scores(*one) for one in zip(found.split(1), reference.split(1), strict=True)])
    assert torch.allclose(mask_scores(found, reference), alone)


def test_scores_in_the_whole_picture_are_the_plain_ones() -> None:
    images, references = pair(6)
    scores = scores_in(torch.ones(3, 1, 24, 24, dtype=torch.bool), images, references)
    assert torch.allclose(scores[:, 0], psnr_share(images, references))
    assert torch.allclose(scores[:, 1], ssim(images, references), atol=1e-6)
    assert torch.allclose(scores[:, 2], (images.double() - references).abs().flatten(1).mean(1) / 2)


def test_what_lies_outside_of_the_body_counts_nothing_but_for_the_window_of_ssim() -> None:
    images, references = pair(7)
    body, spoiled = square(2, 2, 8).expand(3, -1, -1, -1), images.clone()
    spoiled[:, :, 18:] = 1  # more than half a window of 11 pixels below the body
    assert torch.equal(scores_in(body, images, references), scores_in(body, spoiled, references))
    spoiled[:, :, 4] = -images[:, :, 4]
    assert not torch.allclose(scores_in(body, images, references), scores_in(body, spoiled, references))


def test_the_body_is_where_any_registered_image_shows_more_than_air() -> None:
    one, other = -torch.ones(2, 1, 8, 8), -torch.ones(2, 1, 8, 8)
    one[0, 0, 1, 1], other[0, 0, 2, 2], other[0, 0, 3, 3] = 0.5, -0.5, -0.95
    body = body_of(one, other)
    assert body[0].nonzero().tolist() == [[0, 1, 1], [0, 2, 2]]
    assert body[1].all()  # nothing is shown at all
