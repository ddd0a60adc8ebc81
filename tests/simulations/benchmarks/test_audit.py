"""The table of what an audit sees: a row is of a sound mechanism, and the page is that of the figures."""

from pathlib import Path

import pytest

from medgan_core.record import read_json
from simulations.benchmarks.audit import PAGE, cost_of_watch, figures, keep, seen, with_table

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_a_row_sees_most_of_epsilon_and_half_the_noise() -> None:
    row = seen(1.0, 1)
    assert row.epsilon == pytest.approx(1.73, abs=0.01)
    for shares in (*row.chi_square, *row.canary):
        assert 0.5 < shares[0] < 1.1
    assert row.one_run[0] < row.epsilon
    assert row.half > 2 * row.epsilon


def test_the_cost_is_of_a_watched_network() -> None:
    cost = cost_of_watch(3)
    assert cost.weights > 10_000
    assert cost.step > 0 < cost.reading


def test_figures_are_kept_and_go_into_the_page_beside(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text("Before\n\n<!-- seen -->\nold\n<!-- /seen -->\nafter\n", encoding="utf-8")
    told = keep(tmp_path / "audit.json", figures((1.0,), audits=1, steps=2))
    assert told.startswith("| ε by PRV | σ | χ², 5,120 | χ², 40,960 | canary, 2,000 |")
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert page == f"Before\n\n<!-- seen -->\n{told}\n<!-- /seen -->\nafter\n"
    assert keep(tmp_path / "elsewhere" / "audit.json", read_json(tmp_path / "audit.json")) == told


def test_the_page_is_that_of_the_measured_figures() -> None:
    page = (DOCS / PAGE).read_text(encoding="utf-8")
    assert page == with_table(page, read_json(DOCS / "audit.json"))
