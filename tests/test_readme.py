"""README and pages are tested: Python runs, commands and keys exist, tables are the measured ones."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from client.cli import app as medgan_client
from medgan_core.cli import app as medgan
from medgan_core.config import parse_study
from medgan_core.record import read_json
from server.cli import app as medgan_server
from simulations.bench import page, table
from simulations.cli import app as medgan_sim

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("hospital", "coordinator")
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


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_readme_parses(words: list[str]) -> None:
    program, name, *arguments = words
    command = get_command(PROGRAMS[program]).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, list(arguments))


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
