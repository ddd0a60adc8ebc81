"""The page of tasks: means over seeds, decibels; the tables in the tasks' own pages are the measured ones."""

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from simulations.benchmarks.tasks.page import filled, page, table, write
from simulations.benchmarks.tasks.rows import Row, add_row, commands_of, rows_of

DOCS = Path(__file__).resolve().parents[4] / "docs"
ROW = Row(
    task="restoration",
    study="restore",
    settings=("mapping.corruption=blur",),
    method="medgan",
    seed=0,
    scores={"psnr": 0.5, "ssim": 0.9, "mse": 0.001},
    epsilon=inf,
    seconds=10.0,
    processor=20.0,
    digest="x",
)


def test_means_and_spread_over_seeds_with_psnr_in_decibels() -> None:
    other = replace(ROW, seed=1, scores={"psnr": 0.6, "ssim": 0.8, "mse": 0.003}, seconds=20.0)
    [head, _, line] = table([ROW, other]).splitlines()
    assert head.startswith("| method | PSNR (dB) | ssim | mse | ε |")
    assert (
        line
        == "| medgan | 33.00 ± 3.00 | 0.8500 ± 0.0500 | 0.0020 ± 0.0010 | **not private** | 15 | 20 | 2 |"
    )


def test_a_table_lists_methods_in_their_order_and_one_seed_without_a_spread() -> None:
    lines = table([replace(ROW, method="wiener"), replace(ROW, epsilon=10.0)]).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| medgan", "| wiener"]
    assert "| 30.00 | 0.9000 | 0.0010 | 10 |" in lines[0]


def test_tables_are_put_between_the_marks_of_a_tasks_own_page(tmp_path: Path) -> None:
    path, own = tmp_path / "tasks.json", tmp_path / "restoration.md"
    own.write_text("before\n<!-- tasks -->\nold\n<!-- /tasks -->\nafter\n")
    add_row(path, ROW)
    write(path)
    text = own.read_text()
    assert text.startswith("before\n<!-- tasks -->\n### restore `mapping.corruption=blur`\n")
    assert text.endswith("\n<!-- /tasks -->\nafter\n")
    assert "old" not in text
    write(path)
    assert own.read_text() == text
    assert filled("no marks", [ROW]) == "no marks"


def test_the_pages_of_this_project_are_those_of_its_rows() -> None:
    if not (DOCS / "tasks.json").is_file():
        pytest.skip("nothing was measured yet")
    rows = rows_of(DOCS / "tasks.json")
    assert (DOCS / "tasks.md").read_text() == page(rows, commands_of(DOCS / "tasks.json"))
    for task in {row.task for row in rows}:
        own = (DOCS / f"{task}.md").read_text()
        assert own == filled(own, [row for row in rows if row.task == task])
