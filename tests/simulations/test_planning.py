"""`medgan-sim plan`, and runs whose strategy the planner decides."""

import sys
import tomllib
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from medgan_core.config import parse_study
from medgan_core.record import RunFolder, read_json
from medgan_core.release.verify import verify_release
from server.planning import advice, decided
from simulations import cli
from simulations.course import run_study
from simulations.hospitals import Launch
from simulations.planning import show
from tests.simulations.making import overrides, study_file, tiny_study, write_set

AUTO = {"strategy": "auto"}


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["medgan-sim", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_the_table_shows_every_strategy_and_reads_no_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDGAN_DATA", str(tmp_path / "nowhere"))
    path = study_file(tmp_path, sites__count=3)
    said = printed(monkeypatch, capsys, "plan", path, "--set", "sites.nominal_patients=40")
    for words in (
        "tiny: 3 sites of nominally 40 patients, 1 rounds of 2 steps, ε = 10, δ = 1e-05",
        "pooled: all patients at one site: the ceiling",
        "recommended: one_shot",
        "one_shot: averaged over a round the noise in the discriminator's gradient is",
        "a secure sum (privacy.secure_sum) would lower the noise",
        "embedding: noise in each coordinate of a class's mean embedding",
    ):
        assert words in said
    advised = advice(tiny_study(sites__count=3, sites__nominal_patients=40))
    assert [(outlook.strategy, outlook.noise) for outlook in advised.outlooks] == [
        (strategy, noise) for strategy in ("one_shot", "refine") for noise in ("local", "secure", "pooled")
    ]
    lines = {line.split("  ")[0].strip(): line.split() for line in said.splitlines()}
    assert lines["embedding"][1:] == [f"{outlook.embedding_noise:.3g}" for outlook in advised.outlooks]
    assert lines["in a round"][6:] == [f"{outlook.round_ratio:.3g}" for outlook in advised.outlooks[3:]]
    assert list(tmp_path.iterdir()) == [path]


def test_a_task_without_a_query_has_no_strategy_but_noise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = study_file(tmp_path, task="restoration", rounds=2, strategy="auto", sites__nominal_patients=50)
    said = printed(monkeypatch, capsys, "plan", path).splitlines()
    assert said[0] == "# task restoration has no strategy to choose: its fakes are made of patients"
    assert not any("one-shot" in line for line in said)
    assert any(line.startswith("# noise of the steps: ") for line in said)


def test_rounds_are_done_where_only_the_data_know_the_classes() -> None:
    undecided = tiny_study(strategy="auto", data__classes=[])
    found = decided(undecided)
    assert (found.strategy, found.rounds) == ("refine", undecided.rounds)
    assert decided(tiny_study(strategy="auto")).strategy == "one_shot"


@pytest.mark.parametrize("patients", [4, 40])
def test_data_that_are_there_change_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, patients: int
) -> None:
    path, said = study_file(tmp_path), []
    for root in (tmp_path / "nowhere", write_set(tmp_path / "data", patients)):
        monkeypatch.setenv("MEDGAN_DATA", str(root))
        said.append(printed(monkeypatch, capsys, "plan", path))
    assert said[0] == said[1]


def test_a_study_without_privacy_says_so_in_its_table() -> None:
    stream = StringIO()
    study = tiny_study(privacy__mode="off")
    show(study, advice(study), Console(file=stream, width=200))
    assert "NOT PRIVATE" in stream.getvalue()
    assert "recommended: refine" in stream.getvalue()


def test_auto_follows_the_planner_and_other_strategies_stay() -> None:
    small, large = (tiny_study(**AUTO, sites__nominal_patients=size) for size in (20, 10**7))
    assert (decided(small).strategy, decided(small).rounds) == ("one_shot", 0)
    assert (decided(large).strategy, decided(large).rounds) == ("refine", 1)
    assert decided(small).sites == small.sites
    study = tiny_study()
    assert decided(study) is study
    assert (study.strategy, study.rounds) == ("refine", 1)


def test_one_shot_sets_the_rounds_to_none_and_its_file_says_so() -> None:
    study = tiny_study(strategy="one_shot", rounds=7)
    assert study.rounds == 0
    assert parse_study(tomllib.loads(study.to_toml())) == study


def test_a_run_writes_down_what_the_planner_decided(data: Path, tmp_path: Path) -> None:
    run = run_study(tiny_study(**AUTO), tmp_path, Launch(data=str(data)))
    study = RunFolder.open(run.path).study()
    assert (study.strategy, study.rounds) == ("one_shot", 0)
    assert verify_release(run.release).privacy == "dp"
    assert read_json(run.path / "metrics.json")["sites"][0]["training"] > 0


def test_a_dry_run_tells_what_was_decided(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = printed(monkeypatch, capsys, "run", study_file(tmp_path), "--dry-run", *overrides(**AUTO))
    assert tomllib.loads(said)["strategy"] == "one_shot"
    assert "# strategy by the planner: one_shot" in said
    again = printed(monkeypatch, capsys, "run", study_file(tmp_path), "--dry-run")
    assert "by the planner" not in again
