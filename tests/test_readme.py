"""README and pages are tested: Python runs, commands and keys exist, tables are the measured ones."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from client.cli import app as medgan_client
from client.site_file import parse_site_file
from medgan_core.cli import app as medgan
from medgan_core.config import parse_study
from medgan_core.record import read_json
from medgan_core.release.anonymize.rules import explain
from medgan_core.release.check.policy import parse_policy
from server.cli import app as medgan_server
from simulations.bench import page, table
from simulations.benchmarks.tasks.page import summary
from simulations.benchmarks.tasks.rows import rows_of
from simulations.cli import app as medgan_sim

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in (
        "hospital",
        "coordinator",
        "pacs",
        "dicom",
        "dicom_out",
        "anonymize",
        "use",
        "anomaly",
        "augmentation",
        "audit",
        "release",
        "segmentation",
        "restoration",
    )
}
PROGRAMS = {
    "medgan": medgan,
    "medgan-sim": medgan_sim,
    "medgan-client": medgan_client,
    "medgan-server": medgan_server,
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands() -> list[list[str]]:
    lines = "".join(
        block for text in (README, *PAGES.values()) for block in blocks("bash", text)
    ).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("medgan")]


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["images"].shape == (16, 32, 32)  # type: ignore[attr-defined]
    assert len(example.strip().splitlines()) <= 12


def test_the_example_of_a_study_is_a_study() -> None:
    import tomllib

    (example,) = blocks("toml")
    assert parse_study(tomllib.loads(example)).sites.count == 3


def test_the_coordinator_s_page_shows_keys_of_a_study() -> None:
    import tomllib

    (example,) = blocks("toml", PAGES["coordinator"])
    study = {"name": "x", "data": {"kind": "npz", "path": "x"}} | tomllib.loads(example)
    assert parse_study(study).aggregation.rule == "mean"


@pytest.mark.parametrize("example", blocks("toml", PAGES["pacs"]))
def test_the_page_of_archives_shows_keys_of_a_site(example: str) -> None:
    import tomllib

    source = parse_site_file({"name": "north"} | tomllib.loads(example)).source
    assert source.pulled
    assert source.cohort.modalities


@pytest.mark.parametrize("example", blocks("toml", PAGES["dicom"]))
def test_the_page_of_files_shows_keys_of_a_site(example: str) -> None:
    import tomllib

    source = parse_site_file({"name": "north"} | tomllib.loads(example)).source
    assert (source.pulled, source.cohort.rules, source.label.given) == (False, True, True)


def test_the_page_of_releases_shows_keys_of_a_study() -> None:
    import tomllib

    example, policy = blocks("toml", PAGES["release"])
    study = {"name": "x", "data": {"kind": "npz", "path": "x"}} | tomllib.loads(example)
    assert parse_study(study).release.valid_days == 730
    assert parse_policy(tomllib.loads(policy)).floors.worst_class == 0.6


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_readme_parses(words: list[str]) -> None:
    program, name, *arguments = words
    command = get_command(PROGRAMS[program]).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, list(arguments))


def test_the_table_of_rules_is_what_explain_prints() -> None:
    shown = re.search(r"<!-- rules, tested -->\n(.*?)<!-- /rules -->", PAGES["anonymize"], flags=re.DOTALL)
    assert shown is not None
    rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in shown.group(1).splitlines()[2:]]
    assert rows == [(rule.attributes, rule.done, rule.source) for rule in explain()]


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\S+)", "".join(blocks("bash")), flags=re.MULTILINE)
    assert set(targets) >= {"demo", "federation", "test", "scenarios"}
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)] == []


def test_the_tables_are_the_measured_ones() -> None:
    rows = read_json(ROOT / "docs" / "results.json")
    shown = re.search(r"<!-- results.*?-->\n(.*?)\n<!-- /results -->", README, flags=re.DOTALL)
    assert shown is not None
    assert shown.group(1) == table(rows)
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == page(rows)


def test_the_table_of_tasks_is_the_measured_one() -> None:
    rows = rows_of(ROOT / "docs" / "tasks.json")
    shown = re.search(r"<!-- tasks.*?-->\n(.*?)\n<!-- /tasks -->", README, flags=re.DOTALL)
    assert shown is not None
    assert shown.group(1) == summary(rows)
