"""Rows survive the file, replace those of their cell, and damage is named."""

import json
from dataclasses import astuple
from math import inf, isnan, nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.errors import IntegrityError
from simulations.benchmarks.utility.rows import Row, add_command, add_row, commands_of, rows_of
from tests.simulations.benchmarks.utility.making import row

FIGURES = st.floats(0, 1) | st.just(nan)


@given(FIGURES, st.sampled_from([0.5, 10.0, inf]), st.floats(0, 1e6))
def test_a_row_is_read_as_it_was_written(figure: float, epsilon: float, seconds: float) -> None:
    made = row(accuracy=figure, epsilon=epsilon, seconds=seconds)
    read = Row.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False)))
    for one, other in zip(astuple(read), astuple(made), strict=True):
        assert one == other or (isnan(one) and isnan(other))


def test_a_row_replaces_that_of_its_cell_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "utility.json"
    for made in (row(auc=0.1), row(auc=0.2, seed=1), row(auc=0.3, digest="other"), row("real", auc=0.4)):
        add_row(path, made)
    assert [(one.method, one.seed, one.auc) for one in rows_of(path)] == [
        ("medgan", 0, 0.3),
        ("medgan", 1, 0.2),
        ("real", 0, 0.4),
    ]


def test_commands_are_kept_once_beside_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "utility.json"
    add_row(path, row())
    for command in ("one", "two", "one"):
        add_command(path, command)
    add_row(path, row(seed=1))
    assert commands_of(path) == ("one", "two")
    assert len(rows_of(path)) == 2


def test_there_is_nothing_without_a_file(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "utility.json") == ()
    assert commands_of(tmp_path / "utility.json") == ()


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [{}]}', '{"rows": [{"method": "medgan"}]}'])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "utility.json"
    path.write_text(text)
    with pytest.raises(IntegrityError, match=r"utility\.json"):
        add_row(path, row())
    assert path.read_text() == text
