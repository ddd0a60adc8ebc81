"""Which kills are wanted, which are left, and what is kept of those that were made."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from medgan_core.errors import IntegrityError
from simulations.benchmarks.kills.phases import PHASES
from simulations.benchmarks.kills.rows import add_rows, missing, rows_of, summary, wanted
from simulations.benchmarks.kills.strikes import PROCESSES
from tests.simulations.benchmarks.kills.making import kill


def test_kills_are_spread_over_phases_first_and_over_processes_with_them() -> None:
    assert [phase for phase, _ in wanted(len(PHASES))] == list(PHASES)
    assert {process for _, process in wanted(len(PHASES))} == set(PROCESSES)
    assert sorted(wanted(36)) == sorted(product(PHASES, PROCESSES))
    assert len(wanted(100)) == 100


def test_only_kills_that_landed_count() -> None:
    first, *others = wanted(12)
    beside = kill(*first, landed=False)
    assert missing(12, [beside]) == [first, *others]
    assert missing(12, [beside, kill(*first)]) == others
    assert missing(12, [kill(*cell) for cell in wanted(12)]) == []
    assert missing(37, [kill(*first), kill(*first)]) == wanted(36)[1:]


def test_kills_are_kept_with_a_summary_of_what_they_did(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kills.json"
    assert rows_of(path) == ()
    add_rows(path, [kill(delay=3.0), kill(delay=8.0, lost=1, doubled=2)])
    add_rows(path, [kill(delay=5.0, completed=False, exact=False), kill(landed=False), kill("journal")])
    assert len(rows_of(path)) == 5
    training, journal = summary(rows_of(path))
    assert (training["phase"], training["process"], training["kills"]) == ("training", "trainer", 3)
    assert (training["completed"], training["exact"]) == (2, 2)
    assert (training["rounds_lost"], training["double_charges"]) == (1, 2)
    assert (training["delay"], training["longest_delay"]) == (5.0, 8.0)
    assert (journal["phase"], journal["kills"]) == ("journal", 1)


@pytest.mark.parametrize("content", ["[]", '{"kills": [{}]}', '{"rows": []}', "{"])
def test_a_file_of_something_else_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "kills.json"
    path.write_text(content)
    with pytest.raises(IntegrityError, match=r"kills\.json"):
        rows_of(path)


@pytest.mark.parametrize(
    "harm", [{"lost": 1}, {"doubled": 1}, {"completed": False}, {"exact": False}], ids=str
)
def test_any_harm_is_harm(harm: dict[str, Any]) -> None:
    assert kill().harmless
    assert not kill(**harm).harmless
