from math import isnan

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from medgan_core.evaluate.attacks.copying import BITS, copying, perceptual_hash


def pictures(count: int, seed: int) -> Tensor:
    """Smooth blobs of random places."""
    coarse = torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.tanh(interpolate(coarse, (28, 28), mode="bilinear", align_corners=True))


TRAINING, HELD_OUT, FRESH = pictures(300, 1), pictures(200, 2), pictures(200, 3)
OWNERS = torch.arange(300) // 3, torch.arange(200) // 2


def test_synthetic_images_of_their_own_are_as_near_to_both() -> None:
    found = copying(TRAINING, OWNERS[0], HELD_OUT, OWNERS[1], FRESH)
    assert found.training_by_pixels == pytest.approx(found.held_out_by_pixels, abs=0.06)
    assert found.training_by_hash == pytest.approx(found.held_out_by_hash, abs=0.05)


def test_copies_of_patients_are_found_and_shown() -> None:
    """Of the first 20 patients one image each, a little brighter and with noise."""
    noise = 0.01 * torch.randn(20, 1, 28, 28, generator=torch.Generator().manual_seed(4))
    copies = (0.98 * TRAINING[:60:3] + 0.01 + noise).clamp(-1, 1)
    found = copying(TRAINING, OWNERS[0], HELD_OUT, OWNERS[1], torch.cat([FRESH, copies]))
    assert 0.15 <= found.training_by_pixels <= 0.35
    assert found.training_by_pixels > found.held_out_by_pixels + 0.1
    assert found.training_by_hash >= 0.2
    assert all((of_training, made) == (3 * (made - 200), made) for of_training, made in found.closest)


def test_a_hash_knows_an_image_that_is_changed_a_little() -> None:
    changed = (0.9 * TRAINING - 0.05).clamp(-1, 1)
    same = (perceptual_hash(TRAINING) != perceptual_hash(changed)).sum(dim=1).float()
    others = (perceptual_hash(TRAINING) != perceptual_hash(TRAINING.roll(1, 0))).sum(dim=1).float()
    assert perceptual_hash(TRAINING).shape == (300, BITS)
    assert float(same.mean()) < 3 < 20 < float(others.mean())


@pytest.mark.parametrize("none", [0, 1, 2])
def test_without_images_nothing_is_told(none: int) -> None:
    sets = [TRAINING, HELD_OUT, FRESH]
    sets[none] = sets[none][:0]
    found = copying(sets[0], OWNERS[0][: len(sets[0])], sets[1], OWNERS[1][: len(sets[1])], sets[2])
    assert isnan(found.training_by_hash)
    assert found.closest == ()
