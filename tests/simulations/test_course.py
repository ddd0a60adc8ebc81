"""A run from study to release in this process: what it leaves, what it refuses, and how it goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.site import SiteWorker
from medgan_core.errors import (
    BudgetError,
    ConfigError,
    DataError,
    InputError,
    IntegrityError,
    LedgerError,
    RefusedError,
)
from medgan_core.privacy.ledger import LedgerPolicy, PrivacyLedger
from medgan_core.record import RunFolder
from medgan_core.release.trust import Trust
from medgan_core.release.verify import verify_release
from simulations import course
from simulations.course import abandon_run, resume_run, run_study
from simulations.hospitals import Launch
from simulations.progress import Silent
from tests.elsewhere import elsewhere
from tests.simulations.making import Seeded, entries, tiny_study, write_set

FILES = (
    "study.toml environment.json rounds.jsonl ledger.json metrics.json samples.png curves.png report.html "
    "release/manifest.json release/generator.safetensors release/card.md release/receipts.json"
)


def metrics(run: RunFolder) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run.path / "metrics.json").read_text())
    return read


def kept(run: RunFolder) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


class Stops(Silent):
    """Interrupts the person's run after a round."""

    def __init__(self, after: int) -> None:
        self.after = after

    def finished(self, entry: Any) -> None:
        if entry["round"] == self.after:
            raise KeyboardInterrupt


def interrupted(study: Any, out: Path, launch: Launch, after: int = 0) -> Path:
    with pytest.raises(KeyboardInterrupt):
        run_study(study, out, launch, Stops(after))
    return next(path for path in out.iterdir() if path.is_dir())


def test_a_run_leaves_all_that_the_readme_lists_and_a_release_that_verifies(finished: RunFolder) -> None:
    assert [name for name in FILES.split() if not (finished.path / name).is_file()] == []
    assert verify_release(finished.release).epsilon == pytest.approx(metrics(finished)["epsilon"])
    assert len((finished.path / "rounds.jsonl").read_text().splitlines()) == 4


def test_a_simulation_signs_with_keys_of_its_own(finished: RunFolder) -> None:
    trust = Trust.read(finished.path / "trust.keys")
    assert verify_release(finished.release, trust).signers == "2 sites and the coordinator simulation"
    for path in (finished.path / "release.key", *finished.sites.glob("*/signing.key")):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_bytes().hex() not in (finished.path / "trust.keys").read_text()


def test_a_finished_run_holds_nothing_more_at_its_sites(finished: RunFolder) -> None:
    assert entries(finished.path)[-1] == "close"


def test_resuming_a_finished_run_changes_nothing(finished: RunFolder) -> None:
    before = kept(finished)
    assert resume_run(finished.path).path == finished.path
    assert kept(finished) == before


def test_an_engine_that_there_is_not_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--engine ray: expected loop or flower"):
        run_study(tiny_study(), tmp_path, Launch(engine="ray"))
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_there_is_not_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--device = 'cuda:99': expected .*cpu"):
        run_study(tiny_study(), tmp_path, Launch(device="cuda:99"))
    assert list(tmp_path.iterdir()) == []


def test_more_sites_than_patients_is_an_error_that_leaves_no_folder(tmp_path: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match=r"sites.count = 60: expected at most 3\d"):
        run_study(tiny_study(sites__count=60), tmp_path / "runs", Launch(data=str(data)))
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_set_that_is_not_there_is_an_error_that_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tiny\.npz is missing; put it at <data root>/tiny\.npz"):
        run_study(tiny_study(), tmp_path / "runs", Launch(data=str(tmp_path)))
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_interrupted_run_notes_how_to_go_on_and_goes_on(tmp_path: Path, data: Path) -> None:
    launch = Launch(data=str(data))
    with pytest.raises(KeyboardInterrupt) as caught:
        run_study(tiny_study(), tmp_path, launch, Stops(0))
    [path] = list(tmp_path.iterdir())
    assert caught.value.__notes__ == [f"go on with: medgan-sim resume {path}"]
    assert entries(path) == ["genesis", "enrol", "enrol", "hold", "charge", "seal"]
    (path / "rounds.jsonl").unlink()  # as if it had died between state and history
    run = resume_run(path)
    assert entries(path).count("charge") == 4
    lines = (path / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [0, 1, 2, 3]
    assert metrics(run)["epsilon"] == verify_release(run.release).epsilon


@pytest.mark.parametrize("after", [1, 2], ids=["training", "gate"])
def test_a_damaged_newest_state_means_a_replay_and_no_second_charge(
    tmp_path: Path, data: Path, after: int
) -> None:
    path = interrupted(tiny_study(), tmp_path, Launch(data=str(data)), after)
    told = (path / "rounds.jsonl").read_text().splitlines()
    newest = max((path / "state").iterdir())
    newest.write_bytes(newest.read_bytes()[:100])
    resume_run(path)
    assert entries(path).count("charge") == 4
    assert entries(path).count("reopened") == 0
    assert (path / "rounds.jsonl").read_text().splitlines()[: after + 1] == told


def test_a_run_interrupted_while_it_writes_its_release_writes_it_on_resume(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(course, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            run_study(tiny_study(), tmp_path, Launch(data=str(data)))
    [path] = list(tmp_path.iterdir())
    assert verify_release(resume_run(path).release).privacy == "dp"


def test_a_renamed_run_asks_for_its_name_back(tmp_path: Path, data: Path) -> None:
    path = interrupted(tiny_study(), tmp_path, Launch(data=str(data)))
    renamed = path.rename(tmp_path / "mine")
    with pytest.raises(InputError, match=rf"run {path.name}: its folder is called mine now; rename it back"):
        resume_run(renamed)


def test_a_run_is_resumed_from_within_and_after_a_move(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = interrupted(tiny_study(), tmp_path / "a", Launch(data=str(data)))
    (tmp_path / "b").mkdir()
    moved = Path(shutil.move(path, tmp_path / "b"))
    monkeypatch.chdir(moved)
    assert verify_release(resume_run(Path()).release).privacy == "dp"


@pytest.mark.parametrize("body", ["{", "[]", "{}", '{"run": "x", "colour": 1}'])
def test_a_damaged_launch_file_is_named(finished: RunFolder, tmp_path: Path, body: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished.path / "study.toml", run)
    (run / "launch.json").write_text(body)
    with pytest.raises(IntegrityError, match=r"launch\.json"):
        resume_run(run)


def test_what_is_no_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run folder"):
        resume_run(tmp_path)


def shared(tmp_path: Path, data: Path) -> Launch:
    return Launch(data=str(data), ledgers=str(tmp_path / "ledgers"))


def test_runs_that_share_ledgers_go_on_from_what_was_spent_until_the_cap(tmp_path: Path, data: Path) -> None:
    study, launch = tiny_study(sites__epsilon_cap=3.3), shared(tmp_path, data)
    out = tmp_path / "runs"
    first, second = run_study(study, out, launch), run_study(study, out, launch)
    for run, grown in ((first, False), (second, True)):
        told = metrics(run)
        assert (told["sites"][0]["account"] > told["epsilon"] + 0.5) is grown
    with pytest.raises(BudgetError) as caught:
        run_study(study, out, launch)
    for words in ("asks for epsilon 2.", "left ", "cap 3.3", "choose a smaller epsilon"):
        assert words in str(caught.value)


def test_one_site_s_refusal_frees_what_the_others_held(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, launch = tiny_study(sites__epsilon_cap=3.3), shared(tmp_path, data)
    approve: Callable[[SiteWorker], None] = SiteWorker.approve

    def refuse_at_the_second(worker: SiteWorker) -> None:
        if worker.site.name == "site-2":
            raise BudgetError("the cap is reached")
        approve(worker)

    with monkeypatch.context() as patch:
        patch.setattr(SiteWorker, "approve", refuse_at_the_second)
        for _ in range(3):  # three holds would not fit
            with pytest.raises(BudgetError, match="the cap is reached"):
                run_study(study, tmp_path / "runs", launch)
    assert run_study(study, tmp_path / "runs", launch).release.is_dir()


def test_a_restored_older_ledger_is_refused(tmp_path: Path, data: Path) -> None:
    launch, out = shared(tmp_path, data), tmp_path / "runs"
    interrupted(tiny_study(), out, launch)
    ledger = tmp_path / "ledgers" / "site-1" / "ledger.sqlite"
    backup = ledger.read_bytes()
    run_study(tiny_study(), out, launch)
    ledger.write_bytes(backup)
    with pytest.raises(LedgerError, match="older than a copy of its head held outside") as caught:
        run_study(tiny_study(), out, launch)
    assert caught.value.exit_code == 1


def test_a_site_s_own_ledger_is_compared_too_when_a_run_is_resumed(tmp_path: Path, data: Path) -> None:
    path = interrupted(tiny_study(), tmp_path, Launch(data=str(data)))
    (path / "sites" / "site-2" / "ledger.sqlite").unlink()
    with pytest.raises(LedgerError, match=r"ledger\.sqlite is missing") as caught:
        resume_run(path)
    assert "go on with" in caught.value.__notes__[0]
    assert path.is_dir()


def test_the_same_seeds_give_the_same_run(tmp_path: Path, data: Path) -> None:
    releases = [
        run_study(tiny_study(), tmp_path / name, Launch(data=str(data)), random_for=Seeded()).release
        for name in "ab"
    ]
    first, second = ((release / "generator.safetensors").read_bytes() for release in releases)
    assert first == second


def test_a_run_interrupted_at_its_approval_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_set(tmp_path / "data")

    def interrupt(ledger: PrivacyLedger) -> dict[str, Any]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PrivacyLedger, "export", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_study(tiny_study(), tmp_path / "runs", Launch(data=str(root)))
    [path] = list((tmp_path / "runs").iterdir())
    assert verify_release(resume_run(path).release).privacy == "dp"


def test_an_abandoned_run_holds_nothing_and_does_not_go_on(tmp_path: Path, data: Path) -> None:
    launch = Launch(data=str(data), ledgers=str(tmp_path / "ledgers"))
    path = interrupted(tiny_study(), tmp_path / "runs", launch)
    abandon_run(path)
    abandon_run(path)  # a second time: nothing happens
    with PrivacyLedger.open(tmp_path / "ledgers/site-1/ledger.sqlite", "site-1", LedgerPolicy()) as ledger:
        accounts = ledger.export()["accounts"]
        assert all(ledger.committed(account) == ledger.spent(account) for account in accounts)
        assert any(ledger.spent(account) > 0 for account in accounts)
    with pytest.raises(RefusedError, match="closed at this site"):
        resume_run(path)


@pytest.mark.parametrize("public", [False, True])
def test_a_whole_run_is_carried_by_its_device(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, *, public: bool
) -> None:
    """On any machine: sites, coordinator and judging leave nothing behind, and end in the same release."""
    launch = Launch(data=str(data), public=public)
    here = run_study(tiny_study(), tmp_path / "here", launch, random_for=Seeded())
    with elsewhere() as device:
        monkeypatch.setattr(Launch, "place", lambda launch: device)
        there = run_study(tiny_study(), tmp_path / "there", launch, random_for=Seeded())
    first, second = ((run.release / "generator.safetensors").read_bytes() for run in (here, there))
    assert first == second
