"""`medgan-sim audit` of studies and of runs that were made here."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medgan_core.errors import InputError
from medgan_core.record import RunFolder
from simulations import cli
from simulations.auditing import audit_study
from simulations.course import LEDGERS, run_study
from simulations.hospitals import NOISE, Launch
from tests.simulations.making import overrides, study_file, tiny_study

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls the console script's function; gives its exit code and what it printed."""

    def called(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["medgan-sim", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0), capsys.readouterr().out

    return called


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of one-shot queries alone."""
    study = tiny_study(strategy="one_shot", rounds=0)
    return run_study(study, tmp_path_factory.mktemp("runs"), Launch(data=str(data)))


def test_a_study_that_cannot_be_told_is_inconclusive_and_says_so(call: Call, tmp_path: Path) -> None:
    settings = overrides(privacy__secure_sum=True, sites__count=3, share="gradient")
    code, out = call("audit", study_file(tmp_path), *settings)
    assert code == 4
    assert out.splitlines()[-1] == "inconclusive"
    assert "canaries do not reach them" in out
    assert "mutants killed: 3 of 3" in out


def test_a_run_passes_with_its_books_and_its_noise(call: Call, run: RunFolder) -> None:
    code, out = call("audit", run.path, "--json")
    report = json.loads(out)
    assert (code, report["verdict"]) == (0, "passed")
    names = [check["name"] for check in report["checks"]]
    assert sum(name.startswith("account ") for name in names) == 4
    assert names[-1] == "noise of the rounds"
    assert all(report["mutants"].values())


def test_a_run_whose_ledger_says_less_fails(call: Call, run: RunFolder) -> None:
    path = run.path / LEDGERS
    before = path.read_text()
    books = json.loads(before)
    account = next(iter(books["site-1"]["accounts"].values()))
    account["spent"] = 0.5 * float(account["spent"])
    path.write_text(json.dumps(books))
    try:
        code, out = call("audit", run.path)
    finally:
        path.write_text(before)
    assert (code, out.splitlines()[-1]) == (1, "failed")


def test_every_round_of_every_site_has_a_line(run: RunFolder) -> None:
    for site in ("site-1", "site-2"):
        lines = [json.loads(line) for line in (run.site(site) / NOISE).read_text().splitlines()]
        assert [line["phase"] for line in lines] == ["one_shot", "evaluate"]
        assert all(0 < line["p"] <= 1 for line in lines)


def test_nothing_of_the_noise_is_in_the_release_or_at_the_coordinator(run: RunFolder) -> None:
    for path in run.path.rglob("*.json*"):
        if path.name != NOISE:
            assert "chi_square" not in path.read_text(encoding="utf-8"), path.name


def test_a_run_s_study_is_not_changed(run: RunFolder) -> None:
    with pytest.raises(InputError, match="a run's study is as it was"):
        audit_study(str(run.path), ["rounds=2"], print)
