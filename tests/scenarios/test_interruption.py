"""Runs that are killed or interrupted in real processes end as if nothing had happened, at the same cost."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.simulations.making import call, command, entries, environment, study_file, write_set

pytestmark = pytest.mark.scenario
ROUNDS = 5
CHARGES = ROUNDS + 3
Ready = Callable[[Path], bool]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The command of a run of five rounds of about a second."""
    folder = tmp_path_factory.mktemp("study")
    study = study_file(
        folder, rounds=ROUNDS, training__discriminator_steps=40, privacy__noise_multiplier=10.0
    )
    return ["run", study, "--data", write_set(folder / "data")]


@pytest.fixture(scope="module")
def whole(arguments: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, uninterrupted."""
    done = call("medgan-sim", *arguments, "--out", tmp_path_factory.mktemp("whole"))
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def metrics(run: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return read


def finished(rounds: int) -> Ready:
    """Whether this many rounds are on disk; the next one is running then."""

    def ready(run: Path) -> bool:
        history = run / "rounds.jsonl"
        return history.is_file() and len(history.read_text().splitlines()) >= rounds

    return ready


def approved(run: Path) -> bool:
    return (run / "ledger.json").is_file()


def opened(run: Path) -> bool:
    """Whether the second site has been laid out: the run is reading data or asking for approval."""
    return (run / "sites" / "site-2" / "ledger.sqlite").is_file()


def ended_by(signal_: int, when: Ready, arguments: list[object], out: Path) -> tuple[Path, int, str]:
    """Start the run, send it a signal when its folder is ready; the folder, exit code, standard error."""
    process = subprocess.Popen(
        command("medgan-sim", *arguments, "--out", out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # Where the tests run in the background of a shell, SIGINT would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        end = time.monotonic() + 120
        while not any(when(run) for run in out.glob("tiny-*")):
            assert process.poll() is None, "ended by itself"
            assert time.monotonic() < end, "never got there"
            time.sleep(0.005)
        os.kill(process.pid, signal_)
        _, said = process.communicate(timeout=120)
    [run] = out.glob("tiny-*")
    return run, process.returncode, said


def check_same_end(run: Path, whole: Path) -> None:
    """The same ε, to 1e-9, and each round charged once at each site."""
    told, expected = metrics(run), metrics(whole)
    assert told["epsilon"] == pytest.approx(expected["epsilon"], abs=1e-9)
    for site, like in zip(told["sites"], expected["sites"], strict=True):
        for figure in ("training", "held_out", "account"):
            assert site[figure] == pytest.approx(like[figure], abs=1e-9)
    assert [entries(run, site).count("charge") for site in ("site-1", "site-2")] == [CHARGES, CHARGES]
    assert len((run / "rounds.jsonl").read_text().splitlines()) == CHARGES
    verified = call("medgan", "verify", run / "release")
    assert verified.returncode == 0, verified.stderr
    assert (
        verified.stdout.splitlines()[-1]
        == call("medgan", "verify", whole / "release").stdout.splitlines()[-1]
    )


@pytest.mark.parametrize(
    "moment",
    [opened, approved, finished(2), finished(3), finished(ROUNDS + 1), finished(CHARGES)],
    ids=[
        "while asking",
        "in the one-shot round",
        "in the second round",
        "in the third round",
        "at the gate",
        "at the release",
    ],
)
def test_a_killed_run_is_resumed_to_the_same_end(
    arguments: list[object], whole: Path, tmp_path: Path, moment: Ready
) -> None:
    run, code, _ = ended_by(signal.SIGKILL, moment, arguments, tmp_path)
    assert code == -signal.SIGKILL
    assert not (run / "release" / "manifest.json").exists()
    resumed = call("medgan-sim", "resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[-1] == str(run)
    check_same_end(run, whole)


def test_a_killed_run_with_a_truncated_state_replays_a_round(
    arguments: list[object], whole: Path, tmp_path: Path
) -> None:
    run, _, _ = ended_by(signal.SIGKILL, finished(3), arguments, tmp_path)
    newest = max((run / "state").glob("round-*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:1000])
    resumed = call("medgan-sim", "resume", run)
    assert resumed.returncode == 0, resumed.stderr
    check_same_end(run, whole)


def test_ctrl_c_ends_with_130_and_names_the_command_that_goes_on(
    arguments: list[object], whole: Path, tmp_path: Path
) -> None:
    run, code, said = ended_by(signal.SIGINT, finished(3), arguments, tmp_path)
    assert code == 130
    assert "Traceback" not in said
    found = re.search(r"^go on with: medgan-sim (resume \S+)$", said, re.MULTILINE)
    assert found is not None
    resumed = call("medgan-sim", *found[1].split())
    assert resumed.returncode == 0, resumed.stderr
    check_same_end(run, whole)


def test_ctrl_c_ends_flower_s_engine_too(arguments: list[object], whole: Path, tmp_path: Path) -> None:
    flower = [*arguments, "--engine", "flower"]
    run, code, said = ended_by(signal.SIGINT, finished(3), flower, tmp_path)
    assert code == 130
    assert "Traceback" not in said
    assert f"go on with: medgan-sim resume {run}" in said
    resumed = call("medgan-sim", "resume", run)
    assert resumed.returncode == 0, resumed.stderr
    check_same_end(run, whole)


def test_resuming_a_finished_run_does_nothing(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    done = call("medgan-sim", "resume", whole)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, str(whole))
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before
