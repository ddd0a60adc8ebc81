from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.release.bundle import Release
from medgan_core.release.check.drawn import differences, drawn, figures_of, sample_figures
from medgan_core.release.check.policy import Policy


def test_the_same_images_are_drawn_at_every_call_equally_many_of_each_class(release: Release) -> None:
    first, second = drawn(release), drawn(release)
    assert first is not None
    assert second is not None
    assert torch.equal(first[0], second[0])
    assert first[1].bincount().tolist() == [64, 64]


@given(st.floats(0.001, 1), st.integers(2, 6))
def test_differences_are_shares_of_the_range(step: float, count: int) -> None:
    images = torch.full((count, 1, 4, 4), -1.0) + 2 * step * torch.arange(count)[:, None, None, None] / count
    apart = differences(images)
    assert torch.isinf(apart.diagonal()).all()
    assert float(apart[0, 1]) == pytest.approx(step / count, rel=1e-4)
    assert float(differences(torch.stack([-torch.ones(1, 2, 2), torch.ones(1, 2, 2)]))[0, 1]) == 1


def test_sound_images_collapsed_ones_and_copies_are_told_apart(release: Release) -> None:
    labels = torch.arange(2).repeat_interleave(64)
    random = torch.Generator().manual_seed(0)
    sound = torch.rand(128, 1, 28, 28, generator=random) * 2 - 1
    told = figures_of(release, sound, labels, Policy())
    assert min(told.difference) > 0.2
    assert told.duplicates == 0
    assert told.constant == 0
    few = sound[:4].repeat(32, 1, 1, 1) + 1e-3 * torch.rand(128, 1, 28, 28, generator=random)
    copies = figures_of(release, few, labels, Policy())
    assert copies.duplicates == 1
    collapsed = sound.clone()
    collapsed[64:] = sound[:1] * 0.1 + 0.01 * sound[64:]
    assert figures_of(release, collapsed, labels, Policy()).difference[1] < 0.02
    flat = sound.clone()
    flat[:32] = 0.5
    assert figures_of(release, flat, labels, Policy()).constant == 0.25


def test_weights_that_overflow_are_told(release: Release) -> None:
    huge = {n: np.full_like(a, 3e38) if a.dtype == np.float32 else a for n, a in release.weights.items()}
    told = sample_figures(replace(release, weights=huge), Policy())
    assert told is not None
    assert not told.finite
