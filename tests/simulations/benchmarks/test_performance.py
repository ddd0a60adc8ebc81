from pathlib import Path

from medgan_core.record import write_json
from simulations.benchmarks.performance import PAGE, SECTIONS, page, rewrite

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_page_is_that_of_the_measured_rows() -> None:
    assert (DOCS / PAGE).read_text(encoding="utf-8") == page(DOCS)


def test_a_section_shows_machine_and_rows(tmp_path: Path) -> None:
    row = {"method": "plain", "batch": 64, "before": 387.4, "peak": 496.2, "ratio": 1.0}
    write_json(tmp_path / "memory.json", {"torch": "2", "rows": [row]})
    rewrite(tmp_path)
    text = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "`medgan-sim bench memory` (torch 2)" in text
    assert "| plain | 64 | 387 | 496 | 1.00 |" in text
    assert not any(section.title in text for section in SECTIONS if section.file != "memory.json")
