"""What a ledger does with secure sums: both events, both caps, repeats from the hold."""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medgan_core.errors import BudgetError, ConfigError, ReceiptError
from medgan_core.messages import Event, Phase, Receipt
from medgan_core.privacy import budget
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.ledger import Charge, LedgerPolicy, PrivacyLedger
from tests.medgan_core.privacy.ledger_cases import PATIENTS, STEP, kinds

SUM = Event(4.0, 1.0, 1, shares=4, dimension=10, share_deviation=2.0**20)
TRUST = LedgerPolicy(20.0, trust_secure_sum=True)


def cheap(events: Iterable[Event], delta: float) -> float:
    """ε of 4 for a trusted sum, of 8 for a local one, of 1 for a step."""
    return sum(
        math.inf if e.infinite else e.steps * 16 / e.noise_multiplier if e.shares else e.steps for e in events
    )


@pytest.fixture
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "epsilon", cheap)


def opened(folder: Path, policy: LedgerPolicy = TRUST) -> PrivacyLedger:
    return PrivacyLedger.open(folder / "ledger.db", "north", policy)


def held(ledger: PrivacyLedger, *events: Event, run: str = "run") -> str:
    account = ledger.enrol(PATIENTS)
    ledger.hold(run, "plan", {account: events})
    return account


def charge(ledger: PrivacyLedger, account: str, request: str = "first", **other: Any) -> Charge:
    arguments: dict[str, Any] = {"query": "query", "event": SUM, "round": 0, "run": "run"} | other
    return ledger.charge(
        phase=Phase.ONE_SHOT,
        request_digest=request,
        account=account,
        account_name="training",
        **arguments,
    )


pytestmark = pytest.mark.usefixtures("_cheap")


def test_both_events_and_both_epsilons_are_in_the_receipt_and_in_the_chain(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        receipt = charge(ledger, held(ledger, SUM)).receipt
        assert (receipt.event, receipt.local_event) == (SUM, SUM.local)
        assert (receipt.spent, receipt.local_spent) == (4.0, 8.0)
        assert (receipt.query, receipt.repeat) == ("query", 0)
        assert Receipt.from_json(json.loads(json.dumps(receipt.to_json()))) == receipt
        body = ledger.export()["entries"][-1]["body"]["receipt"]
        assert body["event"] == SUM.to_json()
        assert body["local_event"] == SUM.local.to_json()


def test_an_account_reports_both_and_survives_reopening(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        account = held(ledger, SUM, STEP)
        charge(ledger, account)
    with opened(tmp_path) as again:
        assert (again.spent(account), again.spent(account, local=True)) == (4.0, 8.0)
        exported = again.export()["accounts"][account]
        assert (exported["spent"], exported["local_spent"]) == (4.0, 8.0)


# The caps


def test_the_cap_counts_the_local_epsilon_unless_the_site_trusts(tmp_path: Path) -> None:
    for trusts, fits in ((False, 2), (True, 5)):
        folder = tmp_path / str(trusts)
        folder.mkdir()
        with opened(folder, LedgerPolicy(20.0, trust_secure_sum=trusts)) as ledger:
            account = held(ledger, *[SUM] * fits)
            assert ledger.committed(account) == (4.0 if trusts else 8.0) * fits
            with pytest.raises(BudgetError, match="cap 20") as refused:
                held(ledger, SUM, run="more")
            assert ("without trust in secure sums" in str(refused.value)) != trusts


def test_trust_is_not_the_default() -> None:
    assert not LedgerPolicy().trust_secure_sum


def test_a_site_that_trusts_has_a_second_cap_on_the_local_epsilon(tmp_path: Path) -> None:
    with opened(tmp_path, LedgerPolicy(20.0, trust_secure_sum=True, local_epsilon=20.0)) as ledger:
        held(ledger, SUM, SUM)
        with pytest.raises(BudgetError, match=r"epsilon 24 if the other sites .* local_epsilon of 20"):
            held(ledger, SUM, run="more")
        held(ledger, STEP, run="steps")


def test_accounts_without_secure_sums_have_one_cap(tmp_path: Path) -> None:
    with opened(tmp_path, LedgerPolicy(math.inf, trust_secure_sum=True, local_epsilon=1.0)) as ledger:
        held(ledger, STEP, STEP, Event(0.0, 1.0, 1))


def test_a_cap_that_was_lowered_stops_a_sum(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        account = held(ledger, SUM, SUM)
    for policy in (
        LedgerPolicy(3.0, trust_secure_sum=True),
        LedgerPolicy(20.0, trust_secure_sum=True, local_epsilon=5.0),
        LedgerPolicy(7.0),
    ):
        with opened(tmp_path, policy) as lowered, pytest.raises(BudgetError, match="were lowered"):
            charge(lowered, account)


@pytest.mark.parametrize("wrong", [{"local_epsilon": 0.0}, {"max_repeats": -1}, {"max_repeats": 0.5}])
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LedgerPolicy(**wrong)


# Repeats


def test_the_same_request_again_is_no_new_charge(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        account = held(ledger, SUM, SUM)
        first = charge(ledger, account)
        assert charge(ledger, account).receipt == first.receipt
        sealed = ledger.seal(first.receipt, "update")
        assert charge(ledger, account) == Charge(sealed, "sealed", 2)
        assert kinds(ledger).count("charge") == 1


def test_another_cohort_is_a_charge_from_the_hold_and_fresh_noise(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        account = held(ledger, SUM, SUM)
        first = charge(ledger, account, "cohort of four")
        ledger.seal(first.receipt, "update")
        second = charge(ledger, account, "cohort of three")
        assert second.state == "open"
        assert (second.receipt.repeat, second.receipt.spent) == (1, 8.0)
        assert ledger.spent(account) == 8.0
        ledger.seal(second.receipt, "another update")
    with opened(tmp_path) as again:
        assert charge(again, account, "cohort of four").receipt.update_digest == "update"
        assert charge(again, account, "cohort of three").receipt.update_digest == "another update"
        assert again.spent(account) == 8.0


def test_an_empty_hold_refuses_a_repeat(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        account = held(ledger, SUM)
        charge(ledger, account)
        with pytest.raises(BudgetError, match="more steps than held"):
            charge(ledger, account, "another cohort")
        assert ledger.spent(account) == 4.0


def test_a_site_bounds_the_repeats_of_a_round_whatever_is_held(tmp_path: Path) -> None:
    with opened(tmp_path, replace(TRUST, max_repeats=1)) as ledger:
        account = held(ledger, SUM, SUM, SUM)
        charge(ledger, account, "first")
        charge(ledger, account, "second")
        with pytest.raises(BudgetError, match="max_repeats = 1"):
            charge(ledger, account, "third")
        charge(ledger, account, "first", round=1)  # another round has repeats of its own


def test_a_plan_bounds_the_repeats_of_a_round_by_itself_whatever_the_site_allows(tmp_path: Path) -> None:
    """The hold has steps of later rounds in it, which a repeat would take from them."""
    with opened(tmp_path, replace(TRUST, max_repeats=5)) as ledger:
        account = held(ledger, SUM, SUM, SUM)
        charge(ledger, account, "first", max_repeats=1)
        charge(ledger, account, "second", max_repeats=1)
        with pytest.raises(BudgetError, match=r"study has privacy\.max_repeats = 1.*start a new one"):
            charge(ledger, account, "third", max_repeats=1)
        assert ledger.spent(account) == 8.0
        assert charge(ledger, account, "second", max_repeats=1).receipt.repeat == 1
        charge(ledger, account, "first", round=1, max_repeats=1)


@pytest.mark.parametrize(
    "other", [{"query": "another"}, {"query": ""}, {"event": replace(SUM, dimension=9)}, {"event": STEP}]
)
def test_any_other_difference_in_the_same_round_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    with opened(tmp_path) as ledger:
        account = held(ledger, SUM, SUM, STEP, replace(SUM, dimension=9))
        charge(ledger, account)
        for request in ("first", "another cohort"):
            with pytest.raises(ReceiptError, match="charged for another request before"):
                charge(ledger, account, request, **other)


def test_a_query_lets_no_plain_event_be_repeated(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        account = held(ledger, STEP, STEP)
        charge(ledger, account, event=STEP)
        with pytest.raises(ReceiptError, match="charged for another request before"):
            charge(ledger, account, "another cohort", event=STEP)


def test_a_sealed_request_is_found_by_its_digest(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        account = held(ledger, SUM, SUM)
        first = charge(ledger, account, "first")
        assert ledger.sealed("run", 0, Phase.ONE_SHOT, "first") is None
        sealed = ledger.seal(first.receipt, "update")
        charge(ledger, account, "second")
        assert ledger.sealed("run", 0, Phase.ONE_SHOT, "first") == sealed
        assert ledger.sealed("run", 0, Phase.ONE_SHOT, "second") is None
        assert ledger.sealed("run", 1, Phase.ONE_SHOT, "first") is None


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"sampling_rate": 0.0}, "sampling_rate"),
        ({"dimension": 0}, "shares"),
        ({"shares": -1}, "shares"),
        ({"share_deviation": 0.3}, "share_deviation"),
        ({"share_deviation": math.nan}, "share_deviation"),
    ],
)
def test_a_sum_that_would_cost_less_than_it_does_is_refused(
    tmp_path: Path, wrong: dict[str, Any], name: str
) -> None:
    with opened(tmp_path) as ledger, pytest.raises(ConfigError, match=name):
        held(ledger, replace(SUM, **wrong))


def test_an_old_ledger_reads_as_it_was(tmp_path: Path) -> None:
    """Entries of plain events hold no field that older versions did not know."""
    with opened(tmp_path) as ledger:
        account = held(ledger, STEP)
        receipt = charge(ledger, account, event=STEP, query="").receipt
        bodies = [entry.get("body", {}) for entry in ledger.export()["entries"]]
    assert bodies[2]["events"][account] == [{"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 2}]
    assert set(bodies[3]["receipt"]["event"]) == {"noise_multiplier", "sampling_rate", "steps"}
    assert not {"local_event", "local_spent", "query", "repeat"} & (
        bodies[3]["receipt"].keys() | receipt.to_json().keys()
    )


def test_real_figures_agree_with_the_accountant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "epsilon", epsilon)
    with opened(tmp_path) as ledger:
        receipt = charge(ledger, held(ledger, SUM)).receipt
    assert receipt.spent == epsilon([SUM], 1e-5)
    assert receipt.local_spent == epsilon([SUM.local], 1e-5)
