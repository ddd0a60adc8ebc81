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


def test_damaged_files_are_told_where_they_were_measured(tmp_path: Path) -> None:
    damaged = {"files": 10_000, "slowest": 1.417, "worker_peak": 510.7, "own_peak": 85.2}
    row = dict.fromkeys(("files", "loop_per_s", "started_per_s", "ratio_started", "ratio_with_start"), 1.0)
    write_json(tmp_path / "ingest.json", {"rows": [row], "damaged": damaged})
    assert "Of 10,000 files that were damaged at random (`--damaged 10000`) the slowest took 1.4 s" in page(
        tmp_path
    )
    write_json(tmp_path / "ingest.json", {"rows": [row]})
    assert "damaged" not in page(tmp_path)
