"""A process that spends from a ledger and may die at any moment; the product knows nothing of it.

`python -m tests.medgan_core.privacy.ledger_worker FOLDER RUN ROUNDS MOMENT` runs (or resumes) a run. It kills
itself with SIGKILL before its MOMENT-th moment; a moment is an SQL statement, or a step around its touching
of data. 0: it lives. Each round appends a line to `FOLDER/touched` where a hospital would read patients.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

from medgan_core.messages import Event, Phase

REPOSITORY = Path(__file__).parents[3]
STEP = Event(1.0, 0.1, 2)
SHARED = "patient-of-both"


def command(folder: Path, run: str, rounds: int, moment: int) -> list[str]:
    """How to start it."""
    return [sys.executable, "-m", __spec__.name, str(folder), run, str(rounds), str(moment)]


def start(folder: Path, run: str, rounds: int, moment: int = 0) -> "subprocess.Popen[bytes]":
    """Start it and do not wait."""
    return subprocess.Popen(command(folder, run, rounds, moment), cwd=REPOSITORY)


def work(folder: Path, run: str, rounds: int, moment: int = 0) -> bool:
    """Run it to its end; whether it came to the end of its work, rather than to its own."""
    with start(folder, run, rounds, moment) as process:
        code = process.wait(timeout=120)
    assert code in (0, -signal.SIGKILL), code
    return code == 0


def entries(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Kinds and bodies of what is in the ledger, read past the product."""
    connection = sqlite3.connect(folder / "ledger.db")
    try:
        rows = connection.execute("SELECT kind, body FROM entries ORDER BY sequence").fetchall()
    except sqlite3.OperationalError:  # killed before the table was there
        rows = []
    finally:
        connection.close()
    return [(kind, json.loads(body)) for kind, body in rows]


def charged(folder: Path) -> list[str]:
    """Which rounds were charged, once for each charge."""
    receipts = [body["receipt"] for kind, body in entries(folder) if kind == "charge"]
    return [f"{receipt['run']}/{receipt['round']}" for receipt in receipts]


def die_and_resume(folder: Path, moment: int, rounds: int = 3) -> bool:
    """Kill a run at a moment, check, resume, check; whether it died at all."""
    died = not work(folder, "a", rounds, moment)
    check_and_resume(folder, rounds)
    return died


def check_and_resume(folder: Path, rounds: int) -> None:
    """No data without a charge, and after the resumed run exactly the plan: nothing lost, nothing doubled."""
    before = charged(folder)
    assert len(before) >= len(set(touches(folder)))
    assert set(touches(folder)) <= set(before)
    assert work(folder, "a", rounds)
    plan = [f"a/{number}" for number in range(rounds)]
    assert charged(folder) == plan
    assert charged(folder)[: len(before)] == before
    assert sorted(set(touches(folder))) == plan
    assert len(touches(folder)) <= rounds + 1
    kinds = Counter(kind for kind, _ in entries(folder))
    assert (kinds["genesis"], kinds["hold"], kinds["seal"], kinds["close"]) == (1, 1, rounds, 1)
    assert 1 <= kinds["enrol"] <= 2  # once for each process that came so far
    assert kinds["reopened"] <= 1


def touches(folder: Path) -> list[str]:
    """Which rounds touched data, once for each time."""
    path = folder / "touched"
    return path.read_text().split() if path.exists() else []


class Moments:
    """Counts down and kills."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def __call__(self, _statement: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _touch(folder: Path, line: str, moment: Moments) -> None:
    moment()
    with (folder / "touched").open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    moment()


def _arm(moment: Moments) -> None:
    """Count every SQL statement of every connection, and spare each process the import of an accountant."""
    connect = sqlite3.connect

    def counted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(moment)
        return connection

    sqlite3.connect = counted  # type: ignore[assignment]
    accounting = ModuleType("medgan_core.privacy.accounting")
    accounting.epsilon = lambda events, delta: float(sum(event.steps for event in events))  # type: ignore[attr-defined]
    sys.modules[accounting.__name__] = accounting


def main(folder: Path, run: str, rounds: int, moment: Moments) -> None:
    """One run, from approval to its end."""
    _arm(moment)
    from medgan_core.errors import ReceiptError
    from medgan_core.privacy.ledger import LedgerPolicy, PrivacyLedger

    with PrivacyLedger.open(folder / "ledger.db", "north", LedgerPolicy(1000.0)) as ledger:
        account = ledger.enrol([SHARED, f"patient-of-{run}"])
        try:
            ledger.hold(run, "plan", {account: (Event(1.0, 0.1, 2 * rounds),)})
        except ReceiptError:  # an earlier life closed it
            return
        for number in range(rounds):
            charge = ledger.charge(run, number, Phase.TRAIN, f"request-{number}", account, "training", STEP)
            if charge.state == "open":
                _touch(folder, f"{run}/{number}", moment)
                ledger.seal(charge.receipt, f"update-{number}-{time.time_ns()}")
        ledger.close_run(run)


if __name__ == "__main__":
    armed = Moments(int(sys.argv[4]))
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), armed)
    armed.left = 0  # statements from here on are not the ledger's: a coverage tool has a database too
