import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from medgan_core.errors import BudgetError, ReceiptError
from medgan_core.messages import Event
from medgan_core.privacy import budget
from medgan_core.privacy.ledger import Charge
from tests.medgan_core.privacy.ledger_cases import charge, cheap, reopen

CAP = 30.0


class LedgerMachine(RuleBasedStateMachine):
    """Any order of calls, against a model: groups of patients, each with the events that it bears."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(budget, "epsilon", cheap)
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = reopen(Path(self.folder.name), CAP)
        self.groups: list[tuple[set[str], Counter[Event]]] = []
        self.cohorts: list[tuple[str, str]] = []  # one patient, and the account that was named
        self.runs: dict[str, tuple[tuple[str, str], Event]] = {}
        self.closed: set[str] = set()
        self.charged: list[tuple[dict[str, Any], Charge]] = []
        self.floors: dict[str, float] = {}

    def teardown(self) -> None:
        self.ledger.disconnect()
        self.folder.cleanup()
        self.patch.undo()

    def borne(self, patient: str) -> Counter[Event]:
        return next(events for group, events in self.groups if patient in group)

    @rule(patients=st.sets(st.sampled_from("abcdefg"), min_size=1, max_size=3))
    def enrol(self, patients: set[str]) -> None:
        self.cohorts.append((min(patients), self.ledger.enrol(patients)))
        touched = [group for group in self.groups if group[0] & patients]
        apart = [group for group in self.groups if not group[0] & patients]
        events = sum((events for _, events in touched), Counter[Event]())
        self.groups = [*apart, (patients.union(*(group for group, _ in touched)), events)]

    @precondition(lambda self: self.cohorts)
    @rule(data=st.data(), steps=st.integers(1, 12), sigma=st.sampled_from([1.0, 2.0]))
    def hold(self, data: st.DataObject, steps: int, sigma: float) -> None:
        cohort, event = data.draw(st.sampled_from(self.cohorts)), Event(sigma, 0.1, steps)
        name = f"run{len(self.runs)}"
        if self.ledger.committed(cohort[1]) + steps > CAP:
            with pytest.raises(BudgetError):
                self.ledger.hold(name, "plan", {cohort[1]: (event,)})
            return
        self.ledger.hold(name, "plan", {cohort[1]: (event,)})
        self.runs[name] = (cohort, event)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), steps=st.integers(1, 6), round=st.integers(0, 3))
    def charge(self, data: st.DataObject, steps: int, round: int) -> None:
        run = data.draw(st.sampled_from(sorted(self.runs)))
        (patient, account), planned = self.runs[run]
        event = replace(planned, steps=steps)
        asked: dict[str, Any] = {"run": run, "round": round, "account": account, "event": event}
        before = [
            answer.receipt for known, answer in self.charged if (known["run"], known["round"]) == (run, round)
        ]
        done = sum(known["event"].steps for known, _ in self.charged if known["run"] == run)
        over = self.ledger.spent(account) + steps > CAP  # only where a merge brought it there
        if before and before[0].event.steps != steps:
            with pytest.raises(ReceiptError):
                charge(self.ledger, **asked)
        elif not before and (run in self.closed or done + steps > planned.steps or over):
            with pytest.raises(BudgetError):
                charge(self.ledger, **asked)
        elif not before:
            self.charged.append((asked, charge(self.ledger, **asked)))
            self.borne(patient)[event] += 1

    @precondition(lambda self: self.charged)
    @rule(data=st.data(), seal=st.booleans())
    def repeat(self, data: st.DataObject, seal: bool) -> None:
        asked, first = data.draw(st.sampled_from(self.charged))
        if seal:
            self.ledger.seal(first.receipt, "update")
        elif asked["run"] not in self.closed:
            again = charge(self.ledger, **asked)
            assert replace(again.receipt, update_digest="") == first.receipt
            assert again.state == ("sealed" if again.receipt.update_digest else "open")

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(sorted(self.runs)))
        self.ledger.close_run(run)
        self.closed.add(run)

    @rule()
    def restart(self) -> None:
        witness = self.ledger.witness()
        self.ledger.disconnect()
        self.ledger = reopen(Path(self.folder.name), CAP, witness)

    @invariant()
    def every_patient_bears_all_that_was_charged_to_it(self) -> None:
        accounts = self.ledger.export()["accounts"]
        assert len(accounts) == len(self.groups)
        for group, events in self.groups:
            (account,) = {self.ledger.enrol([patient]) for patient in group}
            assert Counter(Event(**event) for event in accounts[account]["events"]) == +events
            for patient in group:
                assert accounts[account]["spent"] >= self.floors.get(patient, 0.0)
                self.floors[patient] = accounts[account]["spent"]


def test_any_order_of_calls() -> None:
    checks = settings(
        max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(LedgerMachine, settings=checks)
