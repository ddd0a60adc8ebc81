"""The pictures: which methods are where, and the same bytes at every call."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from simulations.benchmarks.utility import plots
from simulations.benchmarks.utility.plots import over_epsilon, over_sites
from simulations.benchmarks.utility.rows import Row
from tests.simulations.benchmarks.utility.making import row, rows

Drawn = Callable[[Callable[[Sequence[Row]], bytes], Sequence[Row]], Sequence[Axes]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """The panels of a picture."""

    def panels(draw: Callable[[Sequence[Row]], bytes], made: Sequence[Row]) -> Sequence[Axes]:
        kept: list[Axes] = []

        def keep(figure: Figure) -> bytes:
            kept.extend(figure.axes)
            return b""

        monkeypatch.setattr(plots, "png", keep)
        draw(made)
        return kept

    return panels


def ticks(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_xticklabels()]


def curves(axes: Axes) -> dict[str, list[float]]:
    """Each curve's places, by its name."""
    found = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    lines = [(str(one.get_label()), one.lines[0]) for one in found]
    return {
        name: np.asarray(line.get_xdata(), float).round().tolist() for name, line in lines if line is not None
    }


def across(axes: Axes) -> list[str]:
    return [str(line.get_label()) for line in axes.get_lines() if line.get_linestyle() == "--"]


def test_over_epsilon_pooled_methods_vary_and_real_images_are_a_line(drawn: Drawn) -> None:
    [axes] = drawn(over_epsilon, rows())
    assert axes.get_title(loc="left") == "mnist, 3 sites"
    assert ticks(axes) == ["1", "10", "∞"]
    assert curves(axes) == {"medgan": [0, 1, 2], "dp-merf": [0, 1, 2], "dp-gan": [0, 1]}
    assert across(axes) == ["real"]


def test_over_sites_pooled_methods_are_lines(drawn: Drawn) -> None:
    [axes] = drawn(over_sites, rows())
    assert axes.get_title(loc="left") == "mnist, ε = 10"
    assert ticks(axes) == ["1", "3", "10"]
    assert curves(axes) == {"medgan": [0, 1, 2], "dp-merf": [0, 1, 2]}
    assert across(axes) == ["dp-gan", "real"]


def test_every_study_has_a_panel(drawn: Drawn) -> None:
    both = [*rows(), *(replace(one, study="pneumonia") for one in rows())]
    assert [axes.get_title(loc="left") for axes in drawn(over_sites, both)] == [
        "mnist, ε = 10",
        "pneumonia, ε = 10",
    ]


@pytest.mark.parametrize("draw", [over_epsilon, over_sites])
def test_the_same_rows_give_the_same_bytes(draw: Callable[[Sequence[Row]], bytes]) -> None:
    assert draw(rows()) == draw(rows())
    assert draw(rows()).startswith(b"\x89PNG")


@pytest.mark.parametrize("draw", [over_epsilon, over_sites])
@pytest.mark.parametrize(
    "made", [[], [row()], [row("real", sites=1)], [row("dp-gan", sites=1, balanced_accuracy=nan)]]
)
def test_few_rows_are_drawn_too(draw: Callable[[Sequence[Row]], bytes], made: list[Row]) -> None:
    assert draw(made).startswith(b"\x89PNG")


def test_a_study_of_two_places_has_no_panel_beside_one_of_more(drawn: Drawn) -> None:
    few = [replace(one, study="few") for one in rows() if one.epsilon in (1.0, 10.0)]
    titles = [axes.get_title(loc="left") for axes in drawn(over_epsilon, [*rows(), *few])]
    assert titles == ["mnist, 3 sites"]
    assert [axes.get_title(loc="left") for axes in drawn(over_epsilon, few)] == ["few, 3 sites"]
