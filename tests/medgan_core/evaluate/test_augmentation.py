"""What synthetic images add to few real ones."""

import math

import pytest
import torch
from torch import Tensor

from medgan_core.data.source import Card, SiteData
from medgan_core.errors import DataError
from medgan_core.evaluate.augmentation import Gain, gain_of, gains, some_patients, varied

CARD = Card("x", ("dark", "bright"), (1, 28, 28), "OT", "patient", True)


def shades(count: int, seed: int, noise: float) -> tuple[Tensor, Tensor]:
    """Images that are a little brighter in one class than in the other."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = noise * torch.randn(count, 1, 28, 28, generator=random)
    images[:, :, :4, :4] += 0.6 * labels[:, None, None, None] - 0.3
    return images.clamp(-1, 1), labels


def patients(count: int, seed: int, noise: float = 0.5) -> SiteData:
    images, labels = shades(count, seed, noise)
    return SiteData(CARD, tuple(f"p{i}" for i in range(count)), torch.arange(count), images, labels)


def test_a_gain_has_students_interval() -> None:
    found = gain_of([(0.5, 0.6), (0.6, 0.8), (0.7, 0.7)])
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert found.without == pytest.approx(0.6)
    assert found.with_synthetic == pytest.approx(0.7)
    assert (found.gain, found.low, found.high) == pytest.approx((0.1, 0.1 - half, 0.1 + half))
    assert math.isnan(gain_of([(0.5, 0.6)]).low)


def test_a_figure_that_is_not_there_has_no_gain() -> None:
    found = gain_of([(math.nan, math.nan), (0.6, 0.8)])
    assert all(math.isnan(value) for value in (found.gain, found.low, found.high))


def test_a_share_of_patients_is_another_one_for_each_seed() -> None:
    data = patients(40, 0)
    chosen = [some_patients(data, 0.25, seed).patients for seed in (0, 0, 1)]
    assert len(chosen[0]) == 10
    assert chosen[0] == chosen[1] != chosen[2]
    assert set(chosen[0]) <= set(data.patients)
    assert len(some_patients(data, 0.001, 0)) == 1


def test_varied_images_are_others_of_the_same_size_and_range() -> None:
    images = patients(6, 2).images
    other = varied(images)
    assert other.shape == images.shape
    assert other.abs().max() <= 1
    assert not torch.equal(other, images)


def test_good_synthetic_images_help_and_mislabelled_ones_harm() -> None:
    few, held_out = patients(4, 1), patients(60, 9)
    images, labels = shades(200, 3, 0.3)
    good = gains(few, held_out, images, labels, share=1.0, seeds=(0, 1), steps=40)
    bad = gains(few, held_out, images, 1 - labels, share=1.0, seeds=(0, 1), steps=40)
    assert good.keys() == bad.keys() == {"balanced_accuracy", "auc"}
    assert isinstance(good["auc"], Gain)
    assert good["auc"].gain >= bad["auc"].gain + 0.1
    assert good["auc"].without == bad["auc"].without


def test_a_class_without_synthetic_images_is_refused_by_its_label() -> None:
    images, labels = shades(20, 3, 0.3)
    with pytest.raises(DataError, match=r"class \[1\]"):
        gains(patients(8, 1), patients(8, 2), images[labels == 0], labels[labels == 0], share=1.0, steps=2)
