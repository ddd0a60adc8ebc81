import math

import pytest

from medgan_core.messages import Event
from medgan_core.privacy.accounting import epsilon, renyi_epsilon
from medgan_core.privacy.audit.books import account_outcome, by_losses, exported_outcomes

EVENTS = (Event(1.0, 0.05, 200),)
DELTA = 1e-5


def test_a_ledger_that_says_what_its_events_cost_passes() -> None:
    outcome = account_outcome("a", EVENTS, epsilon(EVENTS, DELTA), DELTA)
    assert outcome.verdict == "passed"
    assert set(outcome.figures) == {"ledger", "PRV", "RDP", "PLD"}
    assert outcome.figures["PRV"] == pytest.approx(outcome.figures["PLD"], rel=0.02)
    assert outcome.figures["RDP"] > outcome.figures["PRV"]


@pytest.mark.parametrize("factor", [0.99, 1.5])
def test_a_ledger_that_says_less_or_more_fails(factor: float) -> None:
    outcome = account_outcome("a", EVENTS, factor * epsilon(EVENTS, DELTA), DELTA)
    assert (outcome.verdict, outcome.p_value) == ("failed", 0.0)


def test_without_noise_all_agree_on_infinity() -> None:
    outcome = account_outcome("a", (Event(0.0, 1.0, 1),), math.inf, DELTA)
    assert outcome.verdict == "passed"
    assert by_losses((Event(0.0, 1.0, 1),), DELTA) is None


def test_secure_sums_are_left_to_renyi() -> None:
    events = (Event(2.0, 1.0, 1, 2, 10, 1000.0),)
    outcome = account_outcome("a", events, epsilon(events, DELTA), DELTA)
    assert outcome.verdict == "passed"
    assert set(outcome.figures) == {"ledger", "PRV", "RDP"}
    assert renyi_epsilon(events, DELTA) == epsilon(events, DELTA)


def test_every_account_of_an_export_that_was_charged_is_looked_at() -> None:
    events = [event.to_json() for event in EVENTS]
    export = {
        "policy": {"delta": DELTA},
        "accounts": {
            "0123456789": {"events": events, "spent": epsilon(EVENTS, DELTA)},
            "89abcdef01": {"events": events, "spent": 0.1},
            "untouched": {"events": [], "spent": 0.0},
        },
    }
    found = {outcome.name: outcome.verdict for outcome in exported_outcomes(export)}
    assert found == {"account 01234567": "passed", "account 89abcdef": "failed"}
