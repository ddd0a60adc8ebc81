from collections.abc import Mapping
from io import BytesIO
from math import inf, nan
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from medgan_core.release.pictures import curves, sample_grid

CLASSES = ("normal", "pneumonia")
RED = (179, 38, 30)
SITES = ("north", "south", "west")


def pixels(png: bytes) -> NDArray[np.uint8]:
    image = Image.open(BytesIO(png))
    image.load()
    return np.asarray(image.convert("RGB"))


def has_red(png: bytes) -> bool:
    return bool((np.abs(pixels(png).astype(int) - RED).sum(axis=2) < 10).sum() > 50)


def fakes(count: int = 40, channels: int = 1, side: int = 28, classes: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, channels, side, side, generator=generator) * 2 - 1
    return images, torch.arange(count) % classes


def grid(synthetic: tuple[Tensor, Tensor], classes: tuple[str, ...] = CLASSES, **changes: Any) -> bytes:
    usual: dict[str, Any] = {
        "real": None,
        "private": True,
        "epsilon": 9.99,
        "delta": 1e-5,
        "unit": "patient",
        "title": "phantoms",
    }
    return sample_grid(*synthetic, classes, **(usual | changes))


def trained(rounds: int) -> list[dict[str, Any]]:
    sites = list(SITES)
    history: list[dict[str, Any]] = [{"round": 0, "phase": "one_shot", "sites": sites, "mismatch": 0.0123}]
    for number in range(1, rounds + 1):
        figures = {"generator_loss": 1 / number, "discriminator_accuracy_on_fakes": 0.6}
        history.append({"round": number, "phase": "train", "sites": sites, **figures})
    return [*history, {"round": rounds + 1, "phase": "evaluate", "sites": sites, "accuracy": 0.8}]


def spent(rounds: int, *, apart: float = 0.0, count: int = 3) -> list[tuple[int, Mapping[str, float]]]:
    names = [f"site {index}" for index in range(count)]
    return [(r, {name: 5 + r + apart * i for i, name in enumerate(names)}) for r in range(rounds + 1)]


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32), (1, 128)])
def test_grid_is_a_picture_with_a_row_for_each_class(channels: int, side: int) -> None:
    two = pixels(grid(fakes(channels=channels, side=side)))
    three = pixels(grid(fakes(channels=channels, side=side, classes=3), ("a", "b", "c")))
    assert two.std() > 10
    assert three.shape[0] - two.shape[0] >= side


def test_the_images_are_in_the_grid_pixel_by_pixel() -> None:
    images = torch.full((2, 1, 64, 64), -1.0)
    images[0, 0, 5, 9] = 1.0
    shown = pixels(grid((images, torch.tensor([0, 1]))))
    block = (shown == 0).all(axis=2)
    assert block.sum() >= 2 * 64 * 64 - 1


def test_values_out_of_range_and_nan_do_not_stop_the_picture() -> None:
    images, labels = fakes()
    images[0], images[1], images[2] = nan, inf, -7.0
    assert pixels(grid((images, labels))).std() > 10


def test_real_images_stand_beside_synthetic_ones_only_where_they_are_given() -> None:
    white = torch.ones(20, 1, 28, 28), torch.arange(20) % 2
    black = -torch.ones(20, 1, 28, 28), torch.arange(20) % 2
    alone, beside = (pixels(grid(white, real=real)) for real in (None, black))
    dark = (beside == 0).all(axis=2)
    assert not (alone == 0).all(axis=2).any()
    assert dark.sum() == 20 * 56 * 56
    assert np.flatnonzero(dark.any(axis=0)).max() < beside.shape[1] / 2 + 60


def test_without_privacy_the_grid_has_a_red_bar() -> None:
    assert has_red(grid(fakes(), private=False, epsilon=inf))
    assert not has_red(grid(fakes()))


def test_few_none_and_oddly_named_are_drawn_without_a_warning() -> None:
    names = ("<b>$x$</b>", "病\n🫁", "_hidden " * 10, "")
    assert pixels(grid(fakes(3, classes=4), names, title="$\\frac{ é 病")).std() > 1
    assert pixels(grid((torch.zeros(0, 1, 28, 28), torch.zeros(0, dtype=torch.int64)))).std() > 1


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert grid(fakes()) == grid(fakes())
    assert curves(trained(2), spent(2), private=True) == curves(trained(2), spent(2), private=True)


def test_curves_have_three_panels_with_rounds_and_two_without() -> None:
    with_rounds = pixels(curves(trained(3), spent(3), private=True))
    without = pixels(curves(trained(0), spent(0), private=True))
    assert with_rounds.shape[1] * 2 == without.shape[1] * 3
    assert min(with_rounds.std(), without.std()) > 5


@pytest.mark.parametrize("count", [1, 3, 9])
@pytest.mark.parametrize("rounds", [0, 50])
def test_sites_that_differ_are_drawn_apart(rounds: int, count: int) -> None:
    apart = curves(trained(rounds), spent(rounds, apart=0.5, count=count), private=True)
    alike = curves(trained(rounds), spent(rounds, count=count), private=True)
    assert (apart == alike) is (count == 1)


def test_many_like_sites_are_named_shortly() -> None:
    by_site = [(0, {f"s{index}": 1.0 + (index == 0) for index in range(9)})]
    assert pixels(curves(trained(0), by_site, private=True)).std() > 5


def test_without_privacy_the_curves_say_so() -> None:
    infinite = [(number, dict.fromkeys(SITES, inf)) for number in range(3)]
    assert has_red(curves(trained(2), infinite, private=False))
    assert not has_red(curves(trained(2), spent(2), private=True))


def test_figures_that_are_missing_leave_no_empty_axes() -> None:
    history = [
        {
            "round": 1,
            "phase": "train",
            "sites": [],
            "generator_loss": nan,
            "discriminator_accuracy_on_fakes": nan,
        }
    ]
    assert pixels(curves(history, [], private=True)).std() > 1
    assert pixels(curves([], [(0, {"north": nan})], private=True)).std() > 1
