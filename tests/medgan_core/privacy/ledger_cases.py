"""What the tests of the ledger share."""

import math
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medgan_core.messages import Event, Phase
from medgan_core.privacy.ledger import Charge, LedgerPolicy, PrivacyLedger, Witness

STEP = Event(1.0, 0.1, 2)
NO_PRIVACY = Event(0.0, 1.0, 1)
PATIENTS = ["patient-anna", "patient-ben", "patient-cleo"]


def cheap(events: Iterable[Event], delta: float) -> float:
    """Stands in for the accountant where its seconds teach nothing: ε grows by 1 with each step."""
    return sum(math.inf if event.infinite else float(event.steps) for event in events)


def reopen(folder: Path, cap: float = 20.0, witness: Witness | None = None) -> PrivacyLedger:
    return PrivacyLedger.open(folder / "ledger.db", "north", LedgerPolicy(cap), witness)


def charge(
    ledger: PrivacyLedger, account: str, round: int = 0, digest: str = "request", **other: Any
) -> Charge:
    arguments: dict[str, Any] = {
        "run": "run",
        "phase": Phase.TRAIN,
        "account_name": "training",
        "event": STEP,
    }
    return ledger.charge(round=round, request_digest=digest, account=account, **arguments | other)


def held(ledger: PrivacyLedger, rounds: int = 3) -> str:
    account = ledger.enrol(PATIENTS)
    ledger.hold("run", "plan", {account: (STEP,) * rounds})
    return account


def kinds(ledger: PrivacyLedger) -> list[str]:
    return [entry["kind"] for entry in ledger.export()["entries"]]


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
