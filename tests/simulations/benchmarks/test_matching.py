"""The rows of the benchmark, and its command; no time is judged here."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from medgan_core.config import Study
from medgan_core.device import CPU
from medgan_core.errors import ConfigError, InputError
from medgan_core.record import read_json
from simulations.benchmarks import matching
from simulations.benchmarks.cli import app
from simulations.benchmarks.matching import Matching, seconds
from simulations.benchmarks.performance import PAGE

FOUND = {(False, "float32"): 0.4, (False, "bfloat16"): 0.2, (True, "float32"): 0.3, (True, "bfloat16"): 0.1}


def made_up(study: Study, device: torch.device, rounds: int) -> list[float]:
    usual = FOUND[study.one_shot.compile, study.training.precision] * study.data.image_size / 28
    return [usual + (20 if study.one_shot.compile else 0), usual, 9 * usual, usual][: rounds + 1]


def test_rows_are_beside_the_plain_step_of_as_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "seconds", made_up)
    rows = matching.matching(CPU, (28, 64), rounds=3)
    assert [(row.pixels, row.precision, row.compiled) for row in rows] == [
        (side, precision, compiled)
        for side in (28, 64)
        for precision in ("float32", "bfloat16")
        for compiled in ("no", "yes")
    ]
    assert [row.ratio for row in rows] == pytest.approx([1, 0.75, 0.5, 0.25] * 2)
    assert rows[0].step == pytest.approx(400)
    assert rows[0].rate == pytest.approx(2.5)
    assert [row.before for row in rows[:2]] == pytest.approx([0, 20])


def test_steps_run_and_their_widths_are_those_that_ship() -> None:
    study = matching._study(28, "float32", False)
    assert study.training.generator_width == 48
    assert matching._study(64, "bfloat16", True).training.generator_width == 24
    found = seconds(study, CPU, 1)
    assert len(found) == 2
    assert min(found) > 0


def test_the_command_keeps_rows_and_renews_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "seconds", made_up)
    path = tmp_path / "new" / "matching.json"
    done = CliRunner().invoke(
        app, ["matching", "--sides", "64", "--device", "cpu", "--results", str(path)], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert Matching(**read_json(path)["rows"][0]).pixels == 64
    assert read_json(path)["device"].startswith("CPU, ")
    assert "| 64 | bfloat16 | yes |" in (path.parent / PAGE).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (("--device", "cuda:999"), ConfigError, "--device"),
        (("--sides", "48"), ConfigError, "data.image_size"),
        (("--sides", "wide"), InputError, "--sides wide: expected numbers above 0"),
    ],
)
def test_what_cannot_be_measured_is_named(
    arguments: tuple[str, ...], error: type[Exception], told: str, tmp_path: Path
) -> None:
    found = CliRunner().invoke(app, ["matching", *arguments, "--results", str(tmp_path / "m.json")]).exception
    assert isinstance(found, error)
    assert told in str(found)
    assert not list(tmp_path.iterdir())
