"""A decision binds to one proposal and one version of the trainer, and survives a kill at any moment."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from client.approvals import Approvals, Entry
from medgan_core.errors import InputError, IntegrityError, MedGANError, PolicyError, RefusedError
from medgan_core.proposals import Proposal

HERE = Path(__file__).parents[2]


def proposal(run: str = "run-1", rounds: int = 2) -> Proposal:
    return Proposal(run, {"name": "tiny", "rounds": rounds}, {"site-1": "ab"}, {"site-1": {"sequence": 1}})


@pytest.fixture
def approvals(tmp_path: Path) -> Approvals:
    return Approvals(tmp_path / "studies")


@pytest.fixture
def entry(approvals: Approvals) -> Entry:
    return approvals.note(proposal())


def test_a_proposal_is_kept_once_without_its_witnesses(approvals: Approvals, entry: Entry) -> None:
    assert approvals.note(replace(proposal(), witnesses={})) == entry
    assert approvals.all() == (entry,)
    assert entry.proposal.witnesses == {}
    assert approvals.of_run("run-1") == entry
    assert approvals.of_run("run-2") is None


def test_another_content_under_the_same_run_is_refused(approvals: Approvals, entry: Entry) -> None:
    with pytest.raises(PolicyError, match="another content"):
        approvals.note(proposal(rounds=3))
    assert len(approvals.all()) == 1


def test_a_decision_is_of_one_version_of_the_trainer(approvals: Approvals, entry: Entry) -> None:
    approved = approvals.decide(entry, "approved", "1.0+aa", "anna")
    assert approved.approved("1.0+aa")
    assert not approved.approved("1.0+bb")
    assert approved.decided("1.0+bb") is None
    denied = approvals.decide(entry, "denied", "1.0+aa", "anna")
    assert denied.decided("1.0+bb") is not None


def test_a_decision_is_of_one_proposal(approvals: Approvals, entry: Entry) -> None:
    approved = approvals.decide(entry, "approved", "1.0", "anna")
    assert not replace(approved, proposal=proposal(rounds=3)).approved("1.0")


def test_an_edited_file_is_noticed(approvals: Approvals, entry: Entry) -> None:
    approvals.decide(entry, "approved", "1.0", "anna")
    [path] = approvals.folder.glob("*.json")
    body = json.loads(path.read_text())
    body["proposal"]["study"]["rounds"] = 1000
    path.write_text(json.dumps(body))
    with pytest.raises(IntegrityError, match="was changed or is damaged"):
        approvals.all()


@pytest.mark.parametrize("prefix", ["", "0", "1234567", "zzzzzzzz"])
def test_a_study_is_named_by_enough_of_its_digest(approvals: Approvals, entry: Entry, prefix: str) -> None:
    with pytest.raises(InputError, match="STUDY"):
        approvals.find(prefix)
    assert approvals.find(entry.digest[:8].upper()) == entry


def test_a_run_that_ended_while_a_person_thought_stays_ended(approvals: Approvals, entry: Entry) -> None:
    approvals.close(entry, "finished")
    with pytest.raises(RefusedError, match="has ended here"):
        approvals.decide(entry, "approved", "1.0", "anna")
    assert approvals.close(entry, "stopped").closed == "finished"


def test_the_first_to_be_approved_have_their_turn(approvals: Approvals) -> None:
    entries = [approvals.note(proposal(f"run-{number}")) for number in range(3)]
    for entry in reversed(entries):
        approvals.decide(entry, "approved", "1.0", "anna")
    order = approvals.active("1.0", 3)
    assert set(order) == {entry.digest for entry in entries}
    assert approvals.active("1.0", 1) == order[:1]
    approvals.close(approvals.find(order[0]), "finished")
    assert approvals.active("1.0", 1) == order[1:2]
    assert approvals.active("2.0", 3) == ()


def test_too_many_waiting_proposals_are_refused(approvals: Approvals) -> None:
    for number in range(100):
        approvals.note(proposal(f"run-{number}"))
    with pytest.raises(PolicyError, match="wait for a decision already"):
        approvals.note(proposal("run-100"))


_KILLED = """
import os, signal, sys
from pathlib import Path
import medgan_core.record as record
from client.approvals import Approvals
approvals = Approvals(Path(sys.argv[1]))
entry = approvals.of_run("run-1")
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "fsync":
    record.os.fsync = die
elif sys.argv[2] == "replace":
    Path.replace = die
else:
    record.fsync_folder = die
approvals.decide(entry, "approved", "1.0", "anna")
"""


@pytest.mark.parametrize(("moment", "decided"), [("fsync", False), ("replace", False), ("renamed", True)])
def test_a_kill_leaves_the_old_decision_or_the_new_one(
    approvals: Approvals, entry: Entry, moment: str, decided: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(approvals.folder), moment],
        cwd=HERE,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    [found] = approvals.all()
    assert (found.decision is not None) == decided
    assert approvals.decide(found, "approved", "1.0", "anna").approved("1.0")
    assert len(approvals.all()) == 1


def test_a_full_disk_leaves_the_old_decision(
    approvals: Approvals, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medgan_core.record.os.fsync", full)
    with pytest.raises(MedGANError, match="No space left"):
        approvals.decide(entry, "approved", "1.0", "anna")
    monkeypatch.undo()
    assert approvals.all() == (entry,)
