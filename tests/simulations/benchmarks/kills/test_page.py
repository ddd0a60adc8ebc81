"""What is shown of the kills: a line that counts what was lost, and a picture that stays the same."""

from simulations.benchmarks.kills.page import headline, histogram, table
from simulations.benchmarks.kills.rows import wanted
from tests.simulations.benchmarks.kills.making import kill

KILLS = [kill(*cell) for cell in wanted(20)]


def test_the_line_tells_what_was_lost() -> None:
    assert headline(KILLS) == (
        "20 kills inside of a phase; 1 of 1 runs complete, ledgers exact; 0 rounds lost, 0 double charges"
    )
    bad = kill(federation="f-2", lost=1, doubled=2, completed=False)
    beside = kill(landed=False)
    assert headline([*KILLS, bad, beside]) == (
        "21 kills inside of a phase; 1 of 2 runs complete, ledgers exact; 1 rounds lost, 2 double charges"
    )


def test_the_table_has_a_row_for_each_phase_and_process() -> None:
    assert table(KILLS).row_count == 20
    assert table([]).row_count == 0


def test_the_histogram_is_the_same_at_every_call() -> None:
    picture = histogram(KILLS)
    assert picture.startswith(b"\x89PNG")
    assert picture == histogram(KILLS)
    assert picture != histogram(KILLS[1:])
