"""A coordinator's run and a hospital's folder, as far as a watch looks at them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.diary import Diary
from medgan_core.messages import Event, Phase, Receipt
from medgan_core.privacy.ledger import LedgerPolicy, PrivacyLedger
from simulations.benchmarks.kills.rows import Kill

RUN = "run-1"


@dataclass
class Disks:
    """Round 0 of a run with two sites, one of them with a folder."""

    path: Path

    def __post_init__(self) -> None:
        for name in (f"{RUN}/state", f"{RUN}/arrivals", "site-1/ledger", f"site-1/runs/{RUN}"):
            (self.path / name).mkdir(parents=True)
        policy = LedgerPolicy(epsilon_cap=10.0, delta=1e-5)
        self.ledger = PrivacyLedger.open(self.site / "ledger" / "ledger.sqlite", "site-1", policy)
        self.account = self.ledger.enrol(["a", "b"])
        self.event = Event(4.0, 1.0, 1)
        self.ledger.hold(RUN, "plan", {self.account: (self.event, self.event)})

    @property
    def run(self) -> Path:
        return self.path / RUN

    @property
    def site(self) -> Path:
        return self.path / "site-1"

    def note(self, kind: str, number: int = 0) -> None:
        Diary(self.site / "log.jsonl").add(kind, run=RUN, round=number)

    def charge(self) -> None:
        self._receipt()

    def seal(self) -> None:
        self.ledger.seal(self._receipt(), "digest")

    def compute(self) -> None:
        (self.site / "runs" / RUN / f"{RUN}-round-000000-one_shot.safetensors").touch()

    def arrive(self, number: int) -> None:
        (self.run / "arrivals" / f"{number:06d}.safetensors").touch()

    def keep(self, number: int, part: bool = False) -> None:
        name = f"round-{number:06d}.safetensors"
        (self.run / "state" / (f".{name}.0a1b2c3d.part" if part else name)).touch()

    def journal(self, number: int) -> None:
        (self.run / "rounds.jsonl").write_text("{}\n" * number)

    def _receipt(self) -> Receipt:
        phase, account = Phase.ONE_SHOT, self.account
        return self.ledger.charge(RUN, 0, phase, "request", account, "training", self.event).receipt


def kill(phase: str = "training", process: str = "trainer", **changes: Any) -> Kill:
    """A kill that landed and did no harm."""
    known: dict[str, Any] = {
        "federation": "f-1",
        "round": 2,
        "phase": phase,
        "process": process,
        "site": "site-1",
        "landed": True,
        "seconds": 9.0,
        "delay": 4.0,
        "lost": 0,
        "doubled": 0,
        "completed": True,
        "exact": True,
    }
    return Kill(**{**known, **changes})
