"""Scores of channels: what belongs together is told from what does not."""

from math import isnan, log

import pytest
import torch
from torch import Tensor

from medgan_core.evaluate.structure import likeness, mutual_information, slice_correlation, structure


def noise(count: int, channels: int, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed)) * 1.8 - 0.8


def smooth(count: int, depth: int, side: int = 32, seed: int = 0) -> Tensor:
    coarse = noise(count, 4, 4, seed)[:, None]
    return torch.nn.functional.interpolate(coarse, (depth, side, side), mode="trilinear")[:, 0]


def test_a_channel_that_is_the_other_upside_down_says_all_of_it() -> None:
    image = noise(4, 1)
    both = torch.cat([image, -image], dim=1)
    independent = torch.cat([image, noise(4, 1, seed=1)], dim=1)
    assert mutual_information(both) > log(8) - 0.2  # all of the bins, but for the ends that are not used
    assert mutual_information(independent) < 0.05  # the bias of 1,024 pixels in 8 × 8 bins
    assert mutual_information(both) == pytest.approx(mutual_information(both.flip(1)))


def test_background_that_all_modalities_share_tells_nothing() -> None:
    image = torch.cat([noise(4, 1), noise(4, 1, seed=1)], dim=1)
    framed = -torch.ones(4, 2, 96, 96)
    framed[..., 32:64, 32:64] = image
    assert mutual_information(framed) == pytest.approx(mutual_information(image), abs=1e-6)


def test_slices_of_one_volume_correlate_and_shuffled_ones_do_not() -> None:
    volumes = smooth(3, 24)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    assert slice_correlation(volumes) > 0.9
    assert slice_correlation(volumes[:, order]) < slice_correlation(volumes) - 0.2
    assert abs(slice_correlation(noise(3, 24))) < 0.05
    assert isnan(slice_correlation(torch.ones(2, 8, 32, 32)))


def test_volumes_that_are_all_alike_have_the_largest_likeness() -> None:
    volumes, random = smooth(4, 20), torch.Generator().manual_seed(0)
    same = volumes[:1].expand(4, -1, -1, -1)
    assert likeness(same, torch.arange(4), random) == pytest.approx(1, abs=1e-4)
    assert likeness(volumes, torch.arange(4), random) < 0.9


def test_pairs_are_of_different_patients_and_thin_volumes_have_no_figure() -> None:
    random = torch.Generator().manual_seed(0)
    assert isnan(likeness(smooth(3, 20), torch.zeros(3, dtype=torch.int64), random))
    assert isnan(likeness(smooth(3, 8), torch.arange(3), random))


@pytest.mark.parametrize(
    ("task", "figures"),
    [
        ("multimodal", {f"mutual_information_{kind}" for kind in ("synthetic", "real", "shuffled")}),
        (
            "volume",
            {
                f"{name}_{kind}"
                for name in ("slice_correlation", "msssim_3d")
                for kind in ("synthetic", "real")
            },
        ),
        ("synthesis", set()),
    ],
)
def test_each_task_has_its_figures_the_same_at_every_call(task: str, figures: set[str]) -> None:
    real, owner = smooth(6, 20), torch.arange(6)
    found = [structure(task, real, owner, smooth(5, 20, seed=1), seed=3) for _ in range(2)]
    assert found[0].keys() == figures
    assert found[0] == found[1]


def test_images_that_are_not_there_have_no_figures_and_no_error() -> None:
    nothing = torch.empty(0, 20, 32, 32)
    for task in ("multimodal", "volume"):
        found = structure(task, smooth(3, 20), torch.arange(3), nothing, seed=0)
        assert all(isnan(value) for name, value in found.items() if not name.endswith("real"))
