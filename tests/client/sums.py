"""Four hospitals and a coordinator that sums securely, all in this process."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from client.secure import Kept
from client.site import RandomFor, SiteWorker
from medgan_core.data.source import Site
from medgan_core.errors import MedGANError
from medgan_core.messages import Request, Stage
from medgan_core.privacy.ledger import LedgerPolicy, PrivacyLedger
from medgan_core.privacy.membership import Membership
from medgan_core.privacy.sum_keys import verify_key_of
from medgan_core.privacy.sum_session import Cohort
from server.exchange import Answer, Refusal
from server.secure import SecureRound
from server.state import FederationState
from tests.client.making import NOISE, Fresh, patients
from tests.server.making import Federation, federation

SITES = tuple(f"site-{number}" for number in range(1, 5))
KEYS = {name: bytes([number]) * 32 for number, name in enumerate(SITES, 1)}
COHORT = Cohort({name: verify_key_of(key) for name, key in KEYS.items()})
POLICY = LedgerPolicy(50.0, trust_secure_sum=True)
SECURE = {"sites__count": 4, "privacy__secure_sum": True, "privacy__drop": 1}


@cache
def coordinator(**changes: Any) -> Federation:
    """Of four sites, one of which may drop out."""
    made = federation(**NOISE | SECURE | changes)
    return replace(made, state=replace(made.state, sites=SITES))


def hospital(name: str) -> Site:
    number = int(name[-1])
    training, held_out = ([f"{name}-{part}{i}" for i in range(2 + number)] for part in "th")
    return Site(name, patients(*training, seed=number), patients(*held_out, seed=10 + number))


@dataclass
class Hospitals:
    """Workers with their ledgers in `folder`. `lost` maps a stage to the sites that fail in it."""

    folder: Path
    of: Federation
    policy: LedgerPolicy = POLICY
    random_for: RandomFor = field(default_factory=Fresh)
    lost: Mapping[Stage, tuple[str, ...]] = field(default_factory=dict)
    spoil: Callable[[Answer], Answer] = lambda answer: answer
    workers: dict[str, SiteWorker] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Hospitals":
        for name in SITES:
            self.start(name)
            self.workers[name].approve()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def start(self, name: str, pinned: Cohort = COHORT) -> SiteWorker:
        """A fresh process of the site: what it kept in memory is gone."""
        path = self.folder / name / "ledger.sqlite"
        path.parent.mkdir(exist_ok=True)
        ledger = self.stack.enter_context(PrivacyLedger.open(path, name, self.policy))
        member = Membership(name, KEYS[name], pinned)
        self.workers[name] = SiteWorker(
            self.of.study, hospital(name), "run-1", ledger, path.parent / "sealed", self.random_for, member
        )
        self.kept[name] = {}
        return self.workers[name]

    def ask(self, name: str, request: Request) -> Any:
        return self.workers[name].take_part(request, self.kept[name])

    def exchange(self, request: Request) -> Iterator[Answer]:
        """Every site in turn; one that is lost stays lost until `gone` is emptied."""
        self.requests.append(request)
        stage = request.secure.stage if request.secure else None
        self.gone |= set(self.lost.get(stage, ())) if stage else set()
        for name, worker in self.workers.items():
            if name in self.gone:
                continue
            try:
                answer = worker.answer(request) if stage is None else self.ask(name, request)
                self.answers.append(self.spoil(answer))
            except MedGANError as error:
                self.answers.append(Refusal(name, f"{name}: {error}"))
            yield self.answers[-1]

    def sum(self, state: FederationState | None = None, attempt: int = 0) -> SecureRound:
        """One attempt at the sum of a round, not yet run."""
        rules = self.of.plan.rules
        assert rules is not None
        return SecureRound(self.of.request(state), self.of.plan, rules, COHORT, attempt, self.exchange)

    def request(self, stage: Stage) -> Request:
        """The latest request of this stage."""
        return next(r for r in reversed(self.requests) if r.secure and r.secure.stage is stage)

    def kinds(self, name: str) -> list[str]:
        """What was written into a site's ledger."""
        return [entry["kind"] for entry in self.workers[name].ledger.export()["entries"]]
