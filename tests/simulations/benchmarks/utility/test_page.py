"""The page: a table for each study, the published figures, the methods and the commands."""

from dataclasses import replace
from pathlib import Path

from simulations.benchmarks.utility.page import page, table, write
from simulations.benchmarks.utility.rows import add_command, add_row, commands_of, rows_of
from tests.simulations.benchmarks.utility.making import row, rows

DOCS = Path(__file__).resolve().parents[4] / "docs"


def test_the_page_in_the_documentation_is_that_of_the_measured_rows() -> None:
    path = DOCS / "utility.json"
    pictures = [f"utility-{kind}.png" for kind in ("epsilon", "sites")]
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert text == page(rows_of(path), commands_of(path), pictures)


def test_a_table_has_a_line_for_each_summary_with_its_interval() -> None:
    lines = table(rows(), "mnist").splitlines()
    assert len(lines) == 2 + 13
    assert lines[0].endswith("| seconds | published accuracy |")
    line = next(line for line in lines if line.startswith("| 3 | 10 | medgan |"))
    assert line == "| 3 | 10 | medgan | 0.810 ± 0.127 | 0.880 ± 0.000 | 0.950 ± 0.000 | 2 | 9.99 | 12 |  |"
    assert sum(line.startswith("| 1 | **not private** | real |") for line in lines) == 1
    assert next(line for line in lines if "| dp-gan |" in line).endswith("| 0.924 |")


def test_published_figures_stand_where_ours_are_not_close_alone() -> None:
    merf = row("dp-merf", accuracy=0.7, sites=1)
    assert table([merf], "mnist").splitlines()[-1].endswith("| 0.813 |")
    assert "published" not in table([replace(merf, accuracy=0.81)], "mnist")
    assert "published" not in table([replace(merf, study="pneumonia")], "pneumonia")


def test_a_page_holds_pictures_tables_methods_and_commands() -> None:
    made = [*rows(), row("dp-merf", study="pneumonia")]
    text = page(made, ["medgan-sim bench utility --seeds 2"], ["a.png"])
    for part in (
        "![a.png](a.png)",
        "## mnist",
        "## pneumonia",
        "https://arxiv.org/abs/2503.14681",
        "- `dp-gan`: ",
        "- `medgan`: One-shot start, and rounds",
        "```bash\nmedgan-sim bench utility --seeds 2\n```",
    ):
        assert part in text
    assert "`pooled`" not in text


def test_everything_is_written_beside_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "utility.json"
    for made in rows():
        add_row(path, made)
    add_command(path, "medgan-sim bench utility")
    told = write(path)
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["utility-epsilon.png", "utility-sites.png", "utility.json", "utility.md"]
    text = (tmp_path / "utility.md").read_text()
    assert told in text
    assert "![utility-epsilon.png](utility-epsilon.png)" in text
