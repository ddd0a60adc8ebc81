import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from medgan_core.errors import BudgetError, ConfigError, DataError, LedgerError, ReceiptError
from medgan_core.messages import Event, Phase, Receipt
from medgan_core.privacy import budget
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.ledger import Charge, LedgerPolicy, PrivacyLedger
from tests.medgan_core.privacy import ledger_worker
from tests.medgan_core.privacy.ledger_cases import (
    NO_PRIVACY,
    PATIENTS,
    STEP,
    charge,
    cheap,
    held,
    kinds,
    reopen,
)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivacyLedger]:
    monkeypatch.setattr(budget, "epsilon", cheap)
    with reopen(tmp_path) as opened:
        yield opened


# Accounts


def test_a_subset_or_another_filter_finds_the_same_account(ledger: PrivacyLedger) -> None:
    account = ledger.enrol(PATIENTS)
    assert ledger.enrol(PATIENTS[:1]) == ledger.enrol(reversed(PATIENTS)) == account
    assert ledger.accounts() == (account,)


def test_how_long_the_chain_is_does_not_say_who_is_new(ledger: PrivacyLedger) -> None:
    ledger.enrol(PATIENTS)
    lengths = [ledger.witness().sequence]
    for cohort in (PATIENTS, PATIENTS[:1], [*PATIENTS, "patient-new"], ["patient-dora"]):
        ledger.enrol(cohort)
        lengths.append(ledger.witness().sequence)
    assert [after - before for before, after in pairwise(lengths)] == [1] * 4


def test_strangers_have_an_account_of_their_own(ledger: PrivacyLedger) -> None:
    training = held(ledger)
    held_out = ledger.enrol(["patient-dora"])
    charge(ledger, training)
    assert held_out != training
    assert ledger.spent(held_out) == 0


def test_a_new_patient_inherits_what_was_spent(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    charge(ledger, account)
    assert ledger.enrol([PATIENTS[0], "patient-new"]) == account
    assert ledger.enrol(["patient-new"]) == account


def test_a_cohort_over_several_accounts_merges_them(ledger: PrivacyLedger, tmp_path: Path) -> None:
    accounts = [ledger.enrol([patient]) for patient in PATIENTS]
    for number, account in enumerate(accounts):
        ledger.hold(f"run{number}", "plan", {account: (STEP, STEP)})
        charge(ledger, account, run=f"run{number}")
    ledger.hold("both", "plan", dict.fromkeys(accounts[:2], (STEP,)))
    assert ledger.enrol(PATIENTS[:2]) == accounts[0]
    assert ledger.enrol(PATIENTS) == accounts[0]
    with reopen(tmp_path) as again:
        for account in accounts:  # the old names still lead there
            assert again.spent(account) == 6
            assert again.committed(account) == 6 + 6 + 4
        again.hold("both", "plan", dict.fromkeys(accounts[:2], (STEP,)))  # still the same hold
        for number in range(2):
            charge(again, accounts[number], number, run="both")
        assert charge(again, accounts[2], run="run1").state == "open"  # charged before the merge
        charge(again, accounts[0], 1, run="run2")
        with pytest.raises(BudgetError, match="more steps than held"):
            charge(again, accounts[0], 2, run="both")


def test_an_empty_cohort_and_an_unknown_account(ledger: PrivacyLedger) -> None:
    with pytest.raises(DataError, match="without patients"):
        ledger.enrol([])
    for ask in (ledger.spent, ledger.committed, ledger.remaining):
        with pytest.raises(LedgerError, match="account nobody is not in this ledger"):
            ask("nobody")
    with pytest.raises(LedgerError, match="nobody"):
        ledger.hold("run", "plan", {"nobody": (STEP,)})


# Holds


def test_a_hold_is_counted_and_freed(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    assert (ledger.spent(account), ledger.committed(account), ledger.remaining(account)) == (0, 6, 14)
    charge(ledger, account)
    assert (ledger.spent(account), ledger.committed(account), ledger.remaining(account)) == (2, 6, 14)
    ledger.close_run("run")
    assert (ledger.spent(account), ledger.committed(account), ledger.remaining(account)) == (2, 2, 18)


def test_a_hold_above_the_cap_says_everything(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    charge(ledger, account)
    ledger.hold("fits", "plan", {account: (Event(1.0, 0.1, 14),)})
    before = ledger.witness()
    with pytest.raises(BudgetError) as caught:
        ledger.hold("big", "plan", {account: (STEP, STEP)})
    message = str(caught.value)
    assert "run 'big' asks for epsilon 4; spent 2, left 0 beside what open runs hold, cap 20" in message
    for way_forward in ("smaller epsilon", "fewer rounds", "administrator to raise the cap"):
        assert way_forward in message
    assert not any(patient in message for patient in PATIENTS)
    assert ledger.witness() == before


def test_a_hold_again(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    before = ledger.witness()
    ledger.hold("run", "plan", {account: (STEP,) * 3})
    ledger.hold("run", "plan", {account: (replace(STEP, steps=6),)})  # the same steps in one piece
    assert ledger.witness() == before
    for plan, steps in (("other", 6), ("plan", 7)):
        with pytest.raises(ReceiptError, match="another plan"):
            ledger.hold("run", plan, {account: (replace(STEP, steps=steps),)})
    ledger.close_run("run")
    with pytest.raises(ReceiptError, match="closed"):
        held(ledger)


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (Event(-1.0, 0.1, 1), "noise_multiplier"),
        (Event(math.nan, 0.1, 1), "noise_multiplier"),
        (Event(math.inf, 0.1, 1), "noise_multiplier"),
        (Event(1.0, 0.0, 1), "sampling_rate"),
        (Event(1.0, 1.1, 1), "sampling_rate"),
        (Event(1.0, 0.1, 0), "steps"),
        (Event(1.0, 0.1, -5), "steps"),
        (Event(1.0, 0.1, 1.5), "steps"),  # type: ignore[arg-type]
    ],
)
def test_events_that_would_cost_nothing_are_refused(ledger: PrivacyLedger, event: Event, name: str) -> None:
    account = held(ledger)
    with pytest.raises(ConfigError, match=name):
        ledger.hold("other", "plan", {account: (event,)})
    with pytest.raises(ConfigError, match=name):
        charge(ledger, account, event=event)


@pytest.mark.parametrize("values", [(0.0, 1e-5), (math.nan, 1e-5), (20.0, 0.0), (20.0, 1.0)])
def test_policies_that_protect_nobody_are_refused(values: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="expected a number"):
        LedgerPolicy(*values)


def test_a_run_without_privacy_needs_an_infinite_cap(tmp_path: Path) -> None:
    """With the real accountant, which is never asked about an infinite event."""
    with reopen(tmp_path) as capped:
        account = capped.enrol(PATIENTS)
        with pytest.raises(BudgetError, match=r"caps epsilon at 20.*sets the cap to inf"):
            capped.hold("run", "plan", {account: (NO_PRIVACY,)})
    with reopen(tmp_path, math.inf) as uncapped:
        uncapped.hold("run", "plan", {account: (NO_PRIVACY,)})
        receipt = charge(uncapped, account, event=NO_PRIVACY).receipt
        assert receipt.spent == uncapped.spent(account) == uncapped.remaining(account) == math.inf
        uncapped.seal(receipt, "update")
        exported = json.loads(json.dumps(uncapped.export(), allow_nan=False))
        assert exported["policy"]["epsilon_cap"] == "inf"
        assert exported["accounts"][account]["spent"] == "inf"
    with reopen(tmp_path) as capped:
        assert capped.remaining(account) == 0
        with pytest.raises(BudgetError, match="spent infinite, left 0"):
            capped.hold("private", "plan", {account: (STEP,)})


# Charges


def test_a_receipt_says_what_was_charged(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    charge(ledger, account)
    answer = charge(ledger, account, 1)
    witness = ledger.witness()
    assert (answer.state, answer.attempt) == ("open", 1)
    assert answer.receipt == Receipt(
        site="north",
        ledger=witness.ledger,
        run="run",
        round=1,
        phase=Phase.TRAIN,
        request_digest="request",
        account="training",
        event=STEP,
        spent=4.0,
        delta=1e-5,
        sequence=5,
        head=witness.head,
    )


def test_the_real_accountant_is_asked(tmp_path: Path) -> None:
    with reopen(tmp_path) as ledger:
        account = held(ledger)
        spent = [charge(ledger, account, number).receipt.spent for number in range(3)]
        assert spent == sorted(spent)
        assert spent[-1] == ledger.spent(account) == ledger.committed(account)
        assert spent[-1] == epsilon([replace(STEP, steps=6)], 1e-5)
        assert ledger.spent(account, 1e-3) < spent[-1]
        with pytest.raises(ConfigError, match="delta"):
            ledger.spent(account, 0.0)


def test_an_open_round_is_charged_once(ledger: PrivacyLedger, tmp_path: Path) -> None:
    account = held(ledger)
    first = charge(ledger, account)
    assert charge(ledger, account) == replace(first, attempt=2)
    with reopen(tmp_path) as again:
        assert charge(again, account) == replace(first, attempt=3)
        assert again.spent(account) == 2
    assert kinds(ledger)[-3:] == ["charge", "reopened", "reopened"]


def test_a_sealed_round_replays(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    receipt = charge(ledger, account).receipt
    charge(ledger, account)
    sealed = ledger.seal(receipt, "update")
    assert sealed == replace(receipt, update_digest="update")
    before = ledger.witness()
    assert ledger.seal(receipt, "update") == ledger.seal(sealed, "update") == sealed
    assert charge(ledger, account) == Charge(sealed, "sealed", 2)
    assert ledger.witness() == before
    with pytest.raises(ReceiptError, match="sealed with another update"):
        ledger.seal(receipt, "other")


@pytest.mark.parametrize("seal", [False, True])
def test_the_same_round_with_another_content_is_refused(ledger: PrivacyLedger, seal: bool) -> None:
    account, other = held(ledger), ledger.enrol(["patient-dora"])
    answer = charge(ledger, account)
    if seal:
        ledger.seal(answer.receipt, "update")
    before = ledger.witness()
    differences: list[dict[str, Any]] = [
        {"digest": "other"},
        {"event": replace(STEP, steps=1)},
        {"account_name": "held_out"},
        {"account": other},
    ]
    for difference in differences:
        with pytest.raises(ReceiptError, match="charged for another request before"):
            charge(ledger, **{"account": account} | difference)
    assert ledger.witness() == before


def test_rounds_and_phases_are_charged_apart(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    charge(ledger, account)
    charge(ledger, account, 1)
    charge(ledger, account, 1, phase=Phase.EVALUATE)
    assert ledger.spent(account) == 6


def test_one_step_more_than_held_is_refused(ledger: PrivacyLedger) -> None:
    account, other = held(ledger), ledger.enrol(["patient-dora"])
    for difference in ({"event": replace(STEP, noise_multiplier=0.9)}, {"account": other}):
        with pytest.raises(BudgetError, match="more steps than held"):
            charge(ledger, **{"account": account} | difference)
    for number in range(3):
        charge(ledger, account, number)
    with pytest.raises(BudgetError, match=r"2 steps .* 0 are left"):
        charge(ledger, account, 3)
    with pytest.raises(BudgetError, match="no hold at this site"):
        charge(ledger, account, run="stranger")


def test_a_closed_run_is_over(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    sealed = ledger.seal(charge(ledger, account, 0).receipt, "update")
    unsealed = charge(ledger, account, 1).receipt
    ledger.close_run("run")
    before = ledger.witness()
    ledger.close_run("run")
    for number in (1, 2):
        with pytest.raises(BudgetError, match="is closed at this site"):
            charge(ledger, account, number)
    assert charge(ledger, account, 0).receipt == sealed
    assert ledger.spent(account) == 4  # nothing is refunded
    assert ledger.witness() == before
    assert ledger.seal(unsealed, "late").update_digest == "late"  # its work was done before
    with pytest.raises(ReceiptError, match="no hold"):
        ledger.close_run("stranger")


def test_a_lowered_cap_stops_a_run(ledger: PrivacyLedger, tmp_path: Path) -> None:
    account = held(ledger)
    charge(ledger, account)
    with (
        reopen(tmp_path, 3.0) as lowered,
        pytest.raises(BudgetError, match="epsilon 4, above the site's cap of 3"),
    ):
        charge(lowered, account, 1)


def test_an_accountants_rounding_stops_nobody(ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    account = held(ledger, 10)
    wobbling = {18: 20.001, 20: 20.0}
    monkeypatch.setattr(budget, "epsilon", lambda e, d: wobbling.get(int(cheap(e, d)), cheap(e, d)))
    for number in range(10):
        charge(ledger, account, number)


def test_only_own_receipts_are_sealed(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    receipt = charge(ledger, account).receipt
    for other in (replace(receipt, round=7), replace(receipt, spent=0.0), replace(receipt, head="x")):
        with pytest.raises(ReceiptError, match="not a receipt of this ledger"):
            ledger.seal(other, "update")
    with pytest.raises(ReceiptError, match="no digest"):
        ledger.seal(receipt, "")


def test_an_export_shows_the_chain_but_not_the_patients(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    ledger.seal(charge(ledger, account).receipt, "update")
    exported = json.loads(json.dumps(ledger.export(), allow_nan=False))
    assert [entry["kind"] for entry in exported["entries"]] == ["genesis", "enrol", "hold", "charge", "seal"]
    assert "body" not in exported["entries"][1]
    head = "0" * 64
    for entry in exported["entries"]:
        lines = f"{entry['sequence']}\n{entry['kind']}\n{entry['body_digest']}\n{head}"
        head = sha256(lines.encode()).hexdigest()
        assert entry["hash"] == head
        if "body" in entry:
            text = json.dumps(entry["body"], sort_keys=True, separators=(",", ":"))
            assert sha256(text.encode()).hexdigest() == entry["body_digest"]
    assert exported["head"] == head == ledger.witness().head
    assert exported["accounts"] == {
        account: {"events": [{"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 2}], "spent": 2.0}
    }


# Many hands


def test_threads_share_a_ledger(ledger: PrivacyLedger) -> None:
    account = held(ledger, 8)
    work = [threading.Thread(target=charge, args=(ledger, account, number // 2)) for number in range(16)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert Counter(kinds(ledger)) == Counter(genesis=1, enrol=1, hold=1, charge=8, reopened=8)
    assert ledger.spent(account) == 16


def test_two_processes_share_a_ledger(tmp_path: Path) -> None:
    processes = [ledger_worker.start(tmp_path, run, 5) for run in "ab"]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    plan = sorted(f"{run}/{number}" for run in "ab" for number in range(5))
    assert sorted(ledger_worker.charged(tmp_path)) == sorted(ledger_worker.touches(tmp_path)) == plan


@pytest.mark.parametrize("moment", [9, 20, 24, 28, 29, 30, 31, 34])
def test_a_killed_process_forgets_nothing(tmp_path: Path, moment: int) -> None:
    """A few moments of tests/scenarios/test_ledger_kills.py."""
    assert ledger_worker.die_and_resume(tmp_path, moment, 2)


def test_a_hospital_asks_its_ledger(ledger: PrivacyLedger) -> None:
    account = held(ledger)
    assert ledger.accounts() == (account,)
    assert ledger.open_runs() == ("run",)
    assert ledger.knows(PATIENTS[0])
    assert not ledger.knows("patient-dora")
    assert len(ledger.pseudonym(PATIENTS[0])) == 64
    before = ledger.witness()
    charge(ledger, account)
    ledger.compare(before)
    with pytest.raises(LedgerError, match="older than a copy"):
        ledger.compare(replace(before, sequence=before.sequence + 9))
    ledger.close_run("run")
    assert ledger.open_runs() == ()
    assert [entry.kind for entry in ledger.entries()] == ["genesis", "enrol", "hold", "charge", "close"]
    assert all(len(entry.body["time"]) == len("2026-01-01T00:00:00Z") for entry in ledger.entries())
