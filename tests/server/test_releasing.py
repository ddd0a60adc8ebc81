"""No release leaves the coordinator that fails its check, and none that nobody could judge without a name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medgan_core.release.bundle import Release
from medgan_core.release.check import run as checking
from medgan_core.release.check.policy import Policy, parse_policy, policy_text
from medgan_core.release.verify import verify_release
from server.folder import CoordinatorFolder
from server.run_file import RunFiles
from tests.medgan_core.release.check.making import LENIENT, TWIN, build_attacked, metrics_with
from tests.medgan_core.release.making import Parties
from tests.server.test_cli import Call, call, folder
from tests.simulations.making import study_file

__all__ = ["call", "folder"]
Finished = Callable[..., str]
ACCEPT = ("--accept-inconclusive", "A. Board: phantoms alone")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy for generators that nobody trained."""
    path = tmp_path / "policy.toml"
    path.write_text(policy_text(LENIENT))
    return path


@pytest.fixture
def finished(
    call: Call, folder: CoordinatorFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Finished:
    """The name of a run that is finished, with attacks of this AUC, or none of them."""
    monkeypatch.setattr(checking, "_twin", lambda release, say: dict(TWIN))

    def made(auc: float | None = None) -> str:
        name = call("start", study_file(tmp_path))[1].strip()
        run = folder.run(name)
        parties = Parties(coordinator=folder.signing_key())
        if auc is None:
            parties.build(run.release, metrics=metrics_with())
        else:
            build_attacked(parties, run.release, auc)
        RunFiles(run).stand("finished")
        return name

    return made


def test_a_release_that_passes_is_checked_and_copied(
    call: Call, finished: Finished, policy: Path, tmp_path: Path, folder: CoordinatorFolder
) -> None:
    name = finished(0.52)
    code, said, _ = call("release-check", name, "--policy", policy)
    assert code == 0
    assert "pass: the release may go out" in said
    assert "attacks on the generator" in said
    code, said, _ = call("release", name, tmp_path / "out", "--policy", policy)
    assert code == 0
    assert said.splitlines()[-1] == f"{tmp_path / 'out'}: epsilon 9.997"
    verified = verify_release(tmp_path / "out")
    assert any("the release check says pass" in line for line in verified.lines)
    assert any("signed by a key" in line for line in verified.lines)
    assert (tmp_path / "out" / "report.pdf").read_bytes() == (
        folder.run(name).release / "report.pdf"
    ).read_bytes()


def test_a_release_that_fails_stays_whatever_a_person_says(
    call: Call, finished: Finished, policy: Path, tmp_path: Path
) -> None:
    name = finished(0.8)
    code, said, _ = call("release-check", name, "--policy", policy)
    assert code == 1
    assert "fail: the release may not go out" in said
    assert "do not release" in said.lower()
    code, _, error = call("release", name, tmp_path / "out", "--policy", policy, *ACCEPT)
    assert code == 1
    assert "the release check failed: attacks on the generator; nothing was released" in error
    assert not (tmp_path / "out").exists()


def test_one_that_nobody_can_judge_needs_a_name_and_a_reason(
    call: Call, finished: Finished, policy: Path, tmp_path: Path
) -> None:
    name, out = finished(), tmp_path / "out"
    assert call("release-check", name, "--policy", policy)[0] == 3
    code, _, error = call("release", name, out, "--policy", policy)
    assert (code, out.exists()) == (3, False)
    assert "--accept-inconclusive" in error
    assert call("release", name, out, "--policy", policy, "--accept-inconclusive", "yes")[0] == 2
    code, said, _ = call("release", name, out, "--policy", policy, *ACCEPT)
    assert code == 0
    assert "accepted by A. Board: phantoms alone" in said
    card = Release.open(out).card
    assert card.check is not None
    assert card.check.accepted == ACCEPT[1]
    assert ACCEPT[1] in (out / "card.md").read_text()
    assert ACCEPT[1] in (out / "report.html").read_text()


def test_the_policy_decides_and_can_be_shown(call: Call, finished: Finished, policy: Path) -> None:
    code, said, _ = call("release-check", "--show-policy")
    assert code == 0
    assert policy_text(Policy()) == said
    assert parse_policy({}) == Policy()
    name = finished(0.52)
    policy.write_text(policy_text(LENIENT.model_copy(update={"max_epsilon": 1.0})))
    assert call("release-check", name, "--policy", policy)[0] == 1
    policy.write_text("max_epsilom = 1.0")
    code, _, error = call("release-check", name, "--policy", policy)
    assert code == 2
    assert "max_epsilom" in error


def test_only_a_finished_run_is_checked(call: Call, folder: CoordinatorFolder, tmp_path: Path) -> None:
    name = call("start", study_file(tmp_path))[1].strip()
    code, _, error = call("release-check", name)
    assert code == 2
    assert "there is a release when it is finished" in error
    assert "no such run" in call("release-check", "nothing")[2]
    assert call("release-check")[0] == 2
