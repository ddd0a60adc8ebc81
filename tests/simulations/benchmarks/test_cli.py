"""`medgan-sim bench`: what is no command is a study, and lists by commas are read or refused."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medgan_core.errors import InputError
from simulations.benchmarks.cli import app


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("arguments", [("nonsense",), ("--seeds", "1", "nonsense"), ("study", "nonsense")])
def test_what_is_no_command_is_a_study(arguments: tuple[str, ...]) -> None:
    error = call(*arguments).exception
    assert isinstance(error, InputError)
    assert "study 'nonsense': no such file" in str(error)


def test_help_lists_the_commands() -> None:
    told = call("--help").output
    known = (
        "study",
        "speed",
        "memory",
        "aggregation",
        "ingest",
        "kills",
        "overhead",
        "utility",
        "tasks",
        "audit",
    )
    assert all(name in told for name in known)


BAD = {
    "a word": (("--epsilons", "1,many"), "--epsilons 1,many: expected numbers above 0"),
    "nothing": (("--epsilons", "0"), "--epsilons 0: expected numbers above 0"),
    "not a number": (("--epsilons", "nan"), "--epsilons nan: expected numbers above 0"),
    "half a site": (("--sites", "1.5"), "--sites 1.5: expected numbers above 0"),
    "a method": (("--methods", "medgan,magic"), "--methods magic: expected some of medgan, "),
    "a study": (("--studies", "nowhere"), "study 'nowhere': no such file"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_lists_are_told(bad: str, tmp_path: Path) -> None:
    arguments, told = BAD[bad]
    error = call("utility", *arguments, "--results", str(tmp_path / "u.json")).exception
    assert isinstance(error, InputError)
    assert told in str(error)
    assert not list(tmp_path.iterdir())
