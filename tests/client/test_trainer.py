"""The trainer answers within its policy: proposals, rounds, farewells. What is not logged has not left."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.trainer
from client.diary import Diary
from client.folder import SiteFolder
from client.keys import verify_key
from client.reasons import reason_for_coordinator, reason_for_log
from client.trainer import Trainer
from medgan_core.errors import (
    InputError,
    IntegrityError,
    LedgerError,
    MedGANError,
    PolicyError,
    ReceiptError,
    RefusedError,
)
from medgan_core.messages import Update
from medgan_core.privacy.sum_keys import signed_by
from medgan_core.proposals import Farewell, Proposal, Standing
from tests.client.sites import (
    NOON,
    PATIENTS,
    approve_all,
    configure,
    coordinator,
    make_site,
    proposal,
    request,
    trainer,
    write_images,
)


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    return make_site(tmp_path / "site")


@pytest.fixture
def desk(folder: SiteFolder) -> Iterator[Trainer]:
    """A trainer whose person has approved run-1."""
    with trainer(folder) as made:
        made.handle(proposal(folder))
        approve_all(folder)
        yield made


def stand(desk: Trainer, asked: Proposal) -> Standing:
    answer = desk.handle(asked)
    assert isinstance(answer, Standing)
    return answer


def told(desk: Trainer, asked: Any) -> str:
    """What the coordinator reads where the site says no."""
    with pytest.raises(MedGANError) as caught:
        desk.handle(asked)
    return reason_for_coordinator(caught.value)


def kinds(folder: SiteFolder) -> list[str]:
    return [note.kind for note in Diary(folder.log).notes()]


# Proposals


def test_a_person_decides_by_default_and_the_answer_is_signed(folder: SiteFolder) -> None:
    asked = proposal(folder)
    with trainer(folder) as desk:
        assert stand(desk, asked).answer == "waiting"
        approve_all(folder)
        answer = stand(desk, asked)
    assert answer.approved
    assert answer.site == "site-1"
    assert answer.proposal == asked.digest()
    assert answer.plan == coordinator().plan.digest()
    assert answer.card["classes"] == ["normal", "pneumonia"]
    assert answer.card["public"] is False
    assert signed_by(bytes.fromhex(verify_key(folder)), bytes.fromhex(answer.signature), answer.message())


def test_without_approval_whatever_keeps_to_the_policy_runs(folder: SiteFolder) -> None:
    configure(folder, policy__approval=False)
    with trainer(folder) as desk:
        assert stand(desk, proposal(folder)).approved
        assert isinstance(desk.handle(request(0)), Update)


def test_a_run_proposed_twice_with_another_content_is_refused(desk: Trainer) -> None:
    other = proposal(desk.folder, training__batch=8)
    assert told(desk, other) == "run: run-1 was proposed before with another content; begin a new run"
    assert stand(desk, proposal(desk.folder)).approved


@pytest.mark.parametrize("run", ["../up", "a/b", "", ".hidden", "x" * 129])
def test_a_run_is_called_so_that_its_folder_stays_here(folder: SiteFolder, run: str) -> None:
    with trainer(folder) as desk:
        assert told(desk, proposal(folder, run=run)).startswith("run: its name")
        assert list(folder.studies.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"privacy__noise_multiplier": 0.1}, "least_noise_multiplier"),
        ({"privacy__delta": 1e-3}, "delta"),
        ({"privacy__clip_norm": 11.0}, "largest_clip_norm"),
        ({"privacy__mode": "off"}, "privacy_off"),
        ({"training__discriminator_steps": 60_000}, "most_steps"),
    ],
)
def test_a_rule_about_public_facts_is_told(folder: SiteFolder, changes: dict[str, Any], rule: str) -> None:
    with trainer(folder) as desk:
        answer = stand(desk, proposal(folder, **changes))
    assert answer.answer == "refused"
    assert answer.reason.startswith(f"{rule}: ")
    last = next(note for note in reversed(Diary(folder.log).notes()) if note.kind == "proposal")
    assert rule in last.facts["why"]


def test_private_rules_are_kept_from_the_coordinator_and_shown_to_the_person(folder: SiteFolder) -> None:
    configure(folder, policy__approval=False, policy__least_patients=1000)
    with trainer(folder) as desk:
        answer = stand(desk, proposal(folder))
        assert (answer.answer, answer.reason) == ("refused", "not approved")
        assert stand(desk, proposal(folder)).reason == "not approved"
        entry = desk.approvals.of_run("run-1")
    assert entry is not None
    assert entry.decision is not None
    assert entry.decision.rules[0].startswith("least_patients: ")
    assert any("least_patients" in str(note.facts) for note in Diary(folder.log).notes())


def test_a_budget_that_is_spent_reads_not_approved(folder: SiteFolder) -> None:
    configure(folder, policy__approval=False, policy__epsilon=0.4)
    with trainer(folder) as desk:
        assert stand(desk, proposal(folder)).reason == "not approved"
        assert desk.ledger.open_runs() == ()


def test_a_new_version_of_the_trainer_asks_again(desk: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = proposal(desk.folder)
    assert stand(desk, asked).approved
    monkeypatch.setattr(client.trainer, "trainer_version", lambda: "9.9+another")
    assert stand(desk, asked).answer == "waiting"
    assert told(desk, request(0)) == "not approved"


def test_the_present_key_must_be_among_the_sites(folder: SiteFolder) -> None:
    asked = proposal(folder)
    other = replace(asked, sites={**asked.sites, "site-1": "00" * 32})
    with trainer(folder) as desk:
        assert (
            stand(desk, other).reason == "sites: site-1 with its present key is not among the study's sites"
        )


def test_polling_is_logged_once_for_each_answer(desk: Trainer) -> None:
    for _ in range(3):
        stand(desk, proposal(desk.folder))
    assert kinds(desk.folder).count("proposal") == 2  # waiting, approved


# Witnesses


def test_a_ledger_behind_its_witness_is_refused_with_the_way_forward(desk: Trainer) -> None:
    asked = proposal(desk.folder)
    known = asdict(desk.ledger.witness())
    assert stand(desk, replace(asked, witnesses={"site-1": known})).approved
    ahead = known | {"sequence": known["sequence"] + 5}
    answer = stand(desk, replace(asked, witnesses={"site-1": ahead}))
    assert answer.reason == "witness: this site's ledger is older than the copy of its head, or another"
    assert "Bring back the newest copy" in Diary(desk.folder.log).notes()[-1].facts["why"]
    assert stand(desk, replace(asked, witnesses={"site-1": {"ledger": 1}})).reason == "witness: malformed"


def test_a_ledger_that_was_put_back_is_noticed_at_the_start(folder: SiteFolder) -> None:
    old = folder.ledger.read_bytes()
    with trainer(folder) as desk:
        desk.handle(proposal(folder))
        approve_all(folder)
        desk.handle(request(0))
    folder.ledger.write_bytes(old)
    with pytest.raises(LedgerError, match="older than a copy"):
        trainer(folder)


def test_a_lost_ledger_is_never_begun_anew(folder: SiteFolder) -> None:
    shutil.rmtree(folder.ledger.parent)
    folder.ledger.parent.mkdir()
    with pytest.raises(LedgerError, match="missing"):
        trainer(folder)
    folder.heads.unlink()
    with pytest.raises(IntegrityError, match="restore"):
        trainer(folder)


# Rounds


def test_rounds_are_answered_signed_logged_and_replayed(desk: Trainer) -> None:
    first = desk.handle(request(0))
    assert isinstance(first, Update)
    key = bytes.fromhex(verify_key(desk.folder))
    assert signed_by(key, bytes.fromhex(first.receipt.signature), first.receipt.message())
    again = desk.handle(request(0))
    assert isinstance(again, Update)
    assert (again.digest(), again.receipt) == (first.digest(), first.receipt)
    with pytest.raises(PolicyError, match="not expected: x"):
        desk.handle(replace(request(0), groups={"x": {"y": np.zeros(1)}}))
    asked = [note.facts["repeated"] for note in Diary(desk.folder.log).notes() if note.kind == "asked"]
    assert asked == [False, True, False]
    left = [note.facts for note in Diary(desk.folder.log).notes() if note.kind == "answered"]
    assert left[0]["bytes"] == left[1]["bytes"] > first.groups["statistics"]["embedding"].nbytes
    assert left[0]["seconds"] > 0
    assert left[1]["seconds"] == 0  # a replay works on no data


def test_another_request_for_a_round_that_was_charged_is_refused(desk: Trainer) -> None:
    asked = request(1)
    desk.handle(asked)
    changed = {name: array + 1 for name, array in asked.groups["generator"].items()}
    with pytest.raises(ReceiptError):
        desk.handle(replace(asked, groups={**asked.groups, "generator": changed}))


def test_the_coordinator_is_told_what_its_request_lacks(desk: Trainer) -> None:
    groups = {name: arrays for name, arrays in request(1).groups.items() if name != "statistics"}
    assert "groups: missing: statistics" in told(desk, replace(request(1), groups=groups))


@pytest.mark.parametrize("share", ["both", "generator"])
def test_every_phase_passes_what_may_leave(folder: SiteFolder, share: str) -> None:
    with trainer(folder) as desk:
        desk.handle(proposal(folder, share=share))
        approve_all(folder)
        for number in range(5):
            assert isinstance(desk.handle(request(number, share=share)), Update)


def test_a_round_without_approval_is_refused(folder: SiteFolder) -> None:
    with trainer(folder) as desk:
        assert told(desk, request(0)) == "not approved"
        desk.handle(proposal(folder))
        assert told(desk, request(0)) == "not approved"
        assert desk.ledger.accounts() == ()


def test_a_denial_ends_a_run_at_once(desk: Trainer) -> None:
    from client.deciding import deny

    desk.handle(request(0))
    entry = desk.approvals.of_run("run-1")
    assert entry is not None
    deny(desk.workshop, desk.approvals, desk.diary, entry, "anna")
    assert told(desk, request(1)) == "not approved"
    assert stand(desk, proposal(desk.folder)).reason == "not approved"
    assert desk.ledger.open_runs() == ()


def test_another_plan_and_one_more_round_are_refused(desk: Trainer) -> None:
    assert told(desk, replace(request(0), plan="another")) == "failed: IntegrityError"
    assert told(desk, replace(request(1), round=5)) == "plan: round 5 of the approved study is no train"
    assert told(desk, replace(request(1), round=3)) == "plan: round 3 of the approved study is no train"


def test_what_is_not_allowed_does_not_leave(desk: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    from client.site import SiteWorker

    honest = SiteWorker.answer

    def leaking(self: SiteWorker, asked: Any) -> Update:
        update = honest(self, asked)
        return replace(update, groups={**update.groups, "patients": {"count": np.ones(1)}})

    monkeypatch.setattr(SiteWorker, "answer", leaking)
    with pytest.raises(RefusedError, match="not allowed to leave"):
        desk.handle(request(0))
    assert "answered" not in kinds(desk.folder)
    assert kinds(desk.folder)[-1] == "refused"


def test_what_cannot_be_logged_does_not_leave(desk: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MedGANError("log.jsonl could not be written: No space left on device")

    monkeypatch.setattr(desk.diary, "add", full)
    with pytest.raises(MedGANError, match="No space left"):
        desk.handle(request(0))


def test_a_patient_who_withdrew_is_left_out_of_the_next_round(desk: Trainer) -> None:
    from client.consent import withdraw

    desk.handle(request(0))
    before = desk._prepared["run-1"].worker
    gone = before.site.training.patients[0]
    withdraw(desk.folder, desk.ledger, desk.diary, gone)
    desk.handle(request(1))
    after = desk._prepared["run-1"].worker
    assert set(before.site.training.patients) - set(after.site.training.patients) == {gone}
    assert after.accounts == before.accounts
    assert gone not in desk.folder.withdrawn.read_text()
    assert gone not in desk.folder.log.read_text()


# Schedule


def test_outside_of_working_hours_a_round_is_for_later(folder: SiteFolder) -> None:
    configure(folder, schedule__hours='"19:00-07:00"')
    with trainer(folder) as desk:
        desk.handle(proposal(folder))
        approve_all(folder)
        assert stand(desk, proposal(folder)).approved
        assert told(desk, request(0)) == "not now: outside of working hours, 19:00-07:00"
    with trainer(folder, at=NOON.replace(hour=23)) as desk:
        assert isinstance(desk.handle(request(0)), Update)


def test_studies_wait_for_their_turn(folder: SiteFolder) -> None:
    with trainer(folder) as desk:
        desk.handle(proposal(folder))
        approve_all(folder)
        desk.handle(proposal(folder, run="run-2"))
        approve_all(folder)
        answer = stand(desk, proposal(folder, run="run-2"))
        assert (answer.answer, answer.reason) == ("waiting", "not now: other studies come first")
        assert told(desk, request(0, run="run-2")).startswith("not now")
        desk.handle(Farewell("run-1", "finished"))
        assert stand(desk, proposal(folder, run="run-2")).approved
        assert isinstance(desk.handle(request(0, run="run-2")), Update)


# Farewells


def test_a_farewell_frees_the_hold_and_what_was_kept(desk: Trainer) -> None:
    desk.handle(request(0))
    assert list((desk.folder.runs / "run-1").iterdir())
    answer = desk.handle(Farewell("run-1", "finished"))
    assert isinstance(answer, Standing)
    assert (answer.answer, answer.reason) == ("closed", "finished")
    assert desk.ledger.open_runs() == ()
    assert not (desk.folder.runs / "run-1").exists()
    assert told(desk, request(0)) == "not approved"
    assert stand(desk, proposal(desk.folder)).reason == "run: it has ended here (finished)"
    assert isinstance(desk.handle(Farewell("run-1", "again")), Standing)
    assert told(desk, Farewell("another", "finished")) == "not approved"


# The folder


def test_one_trainer_works_in_a_folder(desk: Trainer) -> None:
    with pytest.raises(InputError, match="works in this folder already"):
        trainer(desk.folder)


def test_a_trainer_goes_on_where_another_stopped(folder: SiteFolder) -> None:
    with trainer(folder) as desk:
        desk.handle(proposal(folder))
        approve_all(folder)
        first = desk.handle(request(0))
    with trainer(folder) as desk:
        again = desk.handle(request(0))
        assert isinstance(first, Update)
        assert isinstance(again, Update)
        assert again.digest() == first.digest()
        assert isinstance(desk.handle(request(1)), Update)


def _images(folder: SiteFolder) -> None:
    (folder.path / "images.npz").write_bytes(b"no archive")


def _table(folder: SiteFolder) -> None:
    table = folder.path / "patients.csv"
    table.write_text(table.read_text() + "Anna-999,1\n")


def _withdrawals(folder: SiteFolder) -> None:
    folder.withdrawn.write_text('["Anna-001"')


def _sealed(folder: SiteFolder) -> None:
    for path in folder.runs.rglob("*.safetensors"):
        path.write_bytes(b"Anna-001")


def _runs(folder: SiteFolder) -> None:
    shutil.rmtree(folder.runs)
    folder.runs.write_text("a file")


@pytest.mark.parametrize("spoil", [_images, _table, _withdrawals, _sealed, _runs])
def test_no_refusal_names_a_patient_or_a_path(
    folder: SiteFolder, spoil: Callable[[SiteFolder], None]
) -> None:
    with trainer(folder) as desk:
        desk.handle(proposal(folder))
        approve_all(folder)
        desk.handle(request(0))
    spoil(folder)
    reasons = set()
    with trainer(folder) as desk:
        for asked in (request(0), request(1), replace(request(0), plan="x"), replace(request(0), run="Anna")):
            try:
                desk.handle(asked)
            except MedGANError as error:
                reasons.add(reason_for_coordinator(error))
                told_here = f"{error} {reason_for_log(error)}"
                assert "Anna-" not in told_here
                assert str(folder.path) not in told_here
    assert reasons <= {"not approved", "failed: IntegrityError", "failed: MedGANError"}
    assert "Anna-" not in folder.log.read_text()
    assert str(folder.path) not in folder.log.read_text()


def test_the_reasons_of_two_hospitals_differ_only_by_public_facts(tmp_path: Path) -> None:
    told_by: list[list[str]] = []
    for number, patients in enumerate((PATIENTS, PATIENTS[:12])):
        folder = make_site(tmp_path / str(number))
        configure(folder, policy__approval=False, policy__least_patients=30, policy__most_rounds=2)
        write_images(folder.path, patients)
        with trainer(folder) as desk:
            bad = proposal(folder, run="bad", privacy__clip_norm=99.0, training__generator_width=400)
            answers = [stand(desk, bad), stand(desk, proposal(folder, run="long", rounds=3))]
        told_by.append([answer.reason for answer in answers])
    assert told_by[0] == told_by[1]
    assert "largest_clip_norm" in told_by[0][0]


def test_no_patient_and_no_path_is_in_the_log(desk: Trainer) -> None:
    for number in range(3):
        desk.handle(request(number))
    text = desk.folder.log.read_text()
    assert "Anna-" not in text
    assert str(desk.folder.path) not in text
    assert datetime.fromisoformat(Diary(desk.folder.log).notes()[-1].time)
