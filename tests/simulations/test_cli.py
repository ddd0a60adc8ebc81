"""`medgan-sim` as a person meets it: exit codes, what is on which stream, and errors without a traceback."""

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medgan_core.record import RunFolder
from medgan_core.release.trust import Trust
from medgan_core.release.verify import verify_release
from simulations import cli, course
from simulations.benchmarks import engine
from simulations.benchmarks.engine import Memory, Speed
from simulations.hospitals import Launch
from tests.simulations.making import overrides, study_file

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Calls the console script's function; gives its exit code and both streams."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def called(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["medgan-sim", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return called


def test_a_run_prints_its_folder_last_and_its_progress_elsewhere(
    call: Call, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "another-run").mkdir(parents=True)
    code, out, err = call("run", study_file(tmp_path), "--data", data, "--out", tmp_path / "runs")
    assert code == 0
    *_, last = out.splitlines()
    folder = Path(last)
    assert folder.parent == tmp_path / "runs"
    assert folder.name.startswith("tiny-20")
    assert f"release: {folder / 'release'}" in out
    assert "round 1 train" in err
    assert "round 1 train" not in out
    assert "NOT PRIVATE" not in out
    assert call("resume", folder)[:2] == (0, out)


def test_runs_go_to_the_folder_runs_unless_told(call: Call, data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    settings = overrides(rounds=0, privacy__mode="off")
    code, out, _ = call("run", study_file(tmp_path), "--data", data, *settings)
    assert code == 0
    assert out.splitlines()[0] == "NOT PRIVATE: this run had no differential privacy"
    assert out.splitlines()[-1].startswith("runs/tiny-")
    assert (tmp_path / out.splitlines()[-1] / "report.html").is_file()


def test_data_are_found_by_the_variable(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def fake(study: Any, out: Path, launch: Launch, progress: Any) -> RunFolder:
        seen.append((study, launch))
        return RunFolder.create(out, study)

    monkeypatch.setattr(course, "run_study", fake)
    monkeypatch.setenv("MEDGAN_DATA", str(data))
    study = study_file(tmp_path)
    options = ("--ledgers", "common", "--public-data", "--device", "cpu")
    assert call("run", study, "--set", "rounds=7", *options)[0] == 0
    assert seen[0][0].rounds == 7
    assert seen[0][1] == Launch(str(data), str(tmp_path / "common"), "loop", public=True, device="cpu")


def test_a_dry_run_prints_the_resolved_study_and_its_cost_and_touches_nothing(
    call: Call, tmp_path: Path
) -> None:
    code, out, _ = call("run", "pneumonia", "--dry-run", "--set", "rounds=0", "--set", "privacy.epsilon=4")
    assert code == 0
    resolved = tomllib.loads(out)
    assert resolved["privacy"]["epsilon"] == 4
    assert resolved["sites"]["epsilon_cap"] == 20
    assert {"data", "sites", "privacy", "one_shot", "training", "evaluation"} <= set(resolved)
    assert re.search(r"# epsilon of the run: (3\.99\d|4) at delta 1e-05", out)
    for what in ("one-shot query", "attack", "its control"):
        assert f"# noise of {'' if what.startswith('its') else 'the '}{what}: " in out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_without_privacy_says_so(call: Call) -> None:
    code, out, _ = call("run", "phantoms", "--dry-run", "--set", "privacy.mode=off")
    assert code == 0
    assert "# epsilon of the run: inf" in out
    assert out.splitlines()[-1] == "# NOT PRIVATE"


BAD = {
    "unknown key": ("rounds2=1", "rounds2 = 1: expected no such key; known are"),
    "unknown key in a table": ("privacy.espilon=1", "privacy.espilon = 1: expected no such key; known are"),
    "wrong type": ("rounds=many", "rounds = 'many': expected a valid integer"),
    "no budget": ("privacy.epsilon=0", "privacy.epsilon = 0: expected greater than 0"),
    "a negative budget": ("privacy.epsilon=-1", "privacy.epsilon = -1: expected greater than 0"),
    "q above 1": (
        "privacy.sampling_rate=1.5",
        "privacy.sampling_rate = 1.5: expected less than or equal to 1",
    ),
    "a mode": ("privacy.mode=maybe", "privacy.mode = 'maybe': expected 'dp' or 'off'"),
    "a quorum": ("sites.quorum=9", "sites.quorum = 9: expected at most sites.count, which is 2"),
    "no key": ("=1", "--set = '=1': expected key=value"),
    "no value": ("rounds", "--set = 'rounds': expected key=value"),
    "sites": ("sites.count=64", "sites.count = 64: expected at most "),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_is_told_by_name_value_and_expectation(
    call: Call, data: Path, tmp_path: Path, bad: str
) -> None:
    setting, told = BAD[bad]
    code, out, err = call("run", study_file(tmp_path), "--data", data, "--set", setting)
    assert (code, out) == (2, "")
    assert f"error: {told}" in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "error: study 'nonsense': no such file, and not one of anomaly, augmentation, "),
        (["phantoms", "--engine", "ray"], "error: --engine ray: expected loop or flower"),
        (["phantoms", "--dry-run", "--engine", "ray"], "error: --engine ray: expected loop or flower"),
        (["phantoms", "--dry-run", "--device", "tpu"], "error: --device = 'tpu': expected "),
        (["phantoms", "--data", "nowhere"], "error: --data nowhere: no such folder"),
        (["phantoms", "--colour"], "error: No such option"),
        (
            ["pneumonia", "--data", "."],
            "pneumoniamnist/pneumoniamnist.npz is missing; PneumoniaMNIST",
        ),
        (["mnist", "--data", "."], "put it at <data root>/mnist, where the data root is what --data or"),
        (["mnist", "--data", "."], "comes from https://"),
    ],
)
def test_bad_input_is_told_and_ends_with_2(call: Call, arguments: list[str], told: str) -> None:
    code, out, err = call("run", *arguments)
    assert (code, out) == (2, "")
    assert told in err


@pytest.mark.parametrize("out", ["a-file", "a-file/below"])
def test_an_out_that_cannot_be_a_folder_is_told(call: Call, data: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "a-file").write_text("")
    code, _, err = call("run", study_file(tmp_path), "--data", data, "--out", tmp_path / out)
    assert code == 2
    assert f"error: --out {Path(out).name}: " in err


def test_an_out_that_may_not_be_written_is_told(call: Call, data: Path, tmp_path: Path) -> None:
    code, _, err = call("run", study_file(tmp_path), "--data", data, "--out", "/proc/runs")
    assert code == 2
    assert "choose another folder" in err


def test_what_is_no_run_cannot_be_resumed(call: Call, tmp_path: Path) -> None:
    code, _, err = call("resume", tmp_path)
    assert code == 2
    assert "is not a run folder" in err


def test_a_refusal_ends_with_3_and_says_how_to_go_on(call: Call, data: Path, tmp_path: Path) -> None:
    code, out, err = call("run", study_file(tmp_path), "--data", data, "--set", "sites.epsilon_cap=1.5")
    assert (code, out) == (3, "")
    for words in ("asks for epsilon 2.", "spent 0", "left 1.5", "cap 1.5", "choose a smaller epsilon"):
        assert words in err
    assert "resume" not in err


def test_an_interruption_ends_with_130_and_the_command_that_goes_on(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(course, "_run_rounds", stop)
    code, out, err = call("run", study_file(tmp_path), "--data", data, "--out", "runs of mine")
    [folder] = Path("runs of mine").iterdir()
    assert (code, out) == (130, "")
    assert f"go on with: medgan-sim resume '{folder}'" in err
    assert "interrupted" in err
    assert json.loads((folder / "ledger.json").read_text()).keys() == {"site-1", "site-2"}


def test_a_bench_prints_the_table(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"accuracy": 0.5, "balanced_accuracy": 0.5, "auc": 0.9}
    facts = {"study": "mnist", "set": ["rounds=0"], "privacy": "dp", "unit": "image", "epsilon": 10.0}
    scores = {"train_on_synthetic": figures, "train_on_real": figures, "runs": [figures], "seeds": [0]}
    row = facts | scores | {"secure_sum": False, "seconds": 3}
    monkeypatch.setattr("simulations.bench.bench", lambda *args: row)
    code, out, _ = call("bench", "mnist", "--results", tmp_path / "new" / "r.json", "--data", tmp_path)
    assert code == 0
    assert "| mnist | ε = 10.0 (image) | 0.500 | 0.900 |" in out


def test_a_bench_of_the_private_step_prints_and_keeps_its_rows(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "speed", lambda: [Speed("plain", 64, 1, 2, 3, 4, 5, 6)])
    monkeypatch.setattr(engine, "memory", lambda: [Memory("plain", 64, 1, 2, 3)])
    for what in ("speed", "memory"):
        code, out, _ = call("bench", what)
        assert code == 0
        assert "plain" in out
        assert json.loads((tmp_path / "docs" / f"{what}.json").read_text())["rows"][0]["method"] == "plain"
    call("bench", "memory", "--results", tmp_path / "other.json")
    assert (tmp_path / "other.json").is_file()


def test_the_console_script_keeps_freed_memory_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: done.append("memory"))
    monkeypatch.setattr(cli, "main", lambda: done.append("command"))
    cli.launch()
    assert done == ["memory", "command"]
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]["scripts"]
    assert scripts["medgan-sim"] == "simulations.cli:launch"


def test_help_tells_what_becomes_of_abandoned_runs(call: Call) -> None:
    assert "abandoned" in call("resume", "--help")[1]


def test_a_finished_run_is_checked_by_a_policy(call: Call, finished: RunFolder, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished.path, tmp_path / "run"))
    code, said, _ = call("release-check", run)
    assert code in (1, 3)
    assert "attacks on the generator" in said
    assert f"report: {run / 'release' / 'report.html'}" in said
    card = json.loads((run / "release" / "card.json").read_text())
    assert card["check"]["verdict"] == {1: "fail", 3: "inconclusive"}[code]
    verify_release(run / "release", Trust.read(run / "trust.keys"))
    assert call("release-check", "--show-policy")[0] == 0
    assert "expected the folder of a finished run" in call("release-check")[2]
    shutil.rmtree(run / "release")
    assert "has no release yet" in call("release-check", run)[2]
