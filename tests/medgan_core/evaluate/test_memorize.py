from math import isnan

import pytest
import torch
from torch import Tensor

from medgan_core.evaluate.memorize import Memorization, memorization
from tests.medgan_core.evaluate.shapes import shapes

TRAINING, _ = shapes(400, 1)
HELD_OUT, _ = shapes(240, 2)


def judged(synthetic: Tensor, training: Tensor = TRAINING, held_out: Tensor = HELD_OUT) -> Memorization:
    owners = torch.arange(len(training)) // 2, torch.arange(len(held_out)) // 2
    generator = torch.Generator().manual_seed(0)
    return memorization(training, owners[0], held_out, owners[1], synthetic, generator=generator)


def test_unseen_images_are_as_near_to_both() -> None:
    found = judged(shapes(400, 3)[0])
    assert found.standard_error == pytest.approx(0.025)
    assert abs(found.share_nearer_training - 0.5) < 3 * found.standard_error
    assert found.to_training == pytest.approx(found.to_held_out, rel=0.1)
    assert found.baseline_share == pytest.approx(0.5, abs=0.1)
    assert found.baseline_to_training == pytest.approx(found.to_training, rel=0.1)


def test_copies_are_flagged() -> None:
    found = judged(TRAINING, training=TRAINING[:240])
    copies = judged(TRAINING[:240], training=TRAINING[:240])
    assert copies.share_nearer_training > 0.99
    assert copies.to_training < 1e-3 < copies.to_held_out
    assert 0.6 < found.share_nearer_training < copies.share_nearer_training


def test_near_copies_are_flagged() -> None:
    noise = torch.randn(TRAINING.shape, generator=torch.Generator().manual_seed(4))
    found = judged((TRAINING + 0.02 * noise)[:240].clamp(-1, 1), training=TRAINING[:240])
    assert found.share_nearer_training > 0.5 + 5 * found.standard_error


def test_copies_of_held_out_images_are_the_other_way() -> None:
    assert judged(HELD_OUT).share_nearer_training < 0.01


def test_baseline_sees_sets_that_differ() -> None:
    found = judged(shapes(100, 3)[0], training=TRAINING * 0.5)
    assert found.baseline_share < 0.2


def test_same_arguments_same_figures() -> None:
    synthetic, _ = shapes(50, 3)
    assert judged(synthetic) == judged(synthetic)


@pytest.mark.parametrize(("training", "held_out", "synthetic"), [(0, 9, 9), (9, 0, 9), (9, 9, 0)])
def test_too_few_images_give_nan(training: int, held_out: int, synthetic: int) -> None:
    found = judged(TRAINING[:synthetic], TRAINING[:training], HELD_OUT[:held_out])
    assert all(isnan(figure) for figure in vars(found).values())


def test_one_held_out_patient_has_no_baseline() -> None:
    found = judged(TRAINING[:9], held_out=HELD_OUT[:2])
    assert isnan(found.baseline_share)
    assert found.to_training >= 0
