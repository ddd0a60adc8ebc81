"""Means and t intervals over seeds, and the published figures beside ours."""

from math import inf, isnan, nan, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.benchmarks.utility.summary import PUBLISHED, Estimate, summaries
from tests.simulations.benchmarks.utility.making import row, rows


def test_the_interval_is_students() -> None:
    estimate = Estimate.of([0.8, 0.9, 1.0])
    assert estimate.mean == pytest.approx(0.9)
    assert estimate.half == pytest.approx(4.303 * 0.1 / sqrt(3))
    assert str(estimate) == "0.900 ± 0.248"


def test_one_seed_has_no_interval_and_no_figure_no_mean() -> None:
    assert str(Estimate.of([0.5])) == "0.500"
    assert str(Estimate.of([0.5, nan])) == str(Estimate.of([])) == "not assessed"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.floats(-0.5, 0.5))
def test_an_interval_moves_with_its_values_and_keeps_its_width(values: list[float], by: float) -> None:
    first, moved = Estimate.of(values), Estimate.of([value + by for value in values])
    assert moved.mean == pytest.approx(first.mean + by, abs=1e-9)
    assert moved.half == pytest.approx(first.half, abs=1e-6)


def test_rows_of_the_same_cell_but_for_the_seed_are_one_summary() -> None:
    made = summaries(rows())
    assert len(made) == 10 + 2 + 1
    assert {one.seeds for one in made} == {2}
    assert [(one.sites, one.epsilon) for one in made] == sorted((one.sites, one.epsilon) for one in made)
    first = next(one for one in made if (one.method, one.sites, one.epsilon) == ("medgan", 3, inf))
    assert first.accuracy.mean == pytest.approx(0.81)
    assert first.seconds == pytest.approx(12.3)
    assert first.spent == 9.99


@pytest.mark.parametrize(("ours", "shown"), [(0.80, True), (0.935, False), (0.969, False), (0.975, True)])
def test_the_published_figure_stands_beside_ours_unless_they_are_close(ours: float, shown: bool) -> None:
    [one] = summaries([row("dp-gan", accuracy=ours, sites=1)])
    assert isnan(one.published) is not shown
    assert not shown or one.published == 0.950


def test_only_what_was_published_has_a_figure() -> None:
    others = [row("dp-gan", study="pneumonia"), row("dp-gan", epsilon=4.0), row("medgan"), row("real")]
    others.append(row("dp-merf", accuracy=0.5, sites=3))
    assert all(isnan(one.published) for one in summaries(others))
    assert set(PUBLISHED.values()) == {0.803, 0.813, 0.924, 0.950}
