"""What the entries of a ledger add up to: accounts, holds and charges. No file and no accountant in here."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from medgan_core.errors import LedgerError
from medgan_core.messages import AccountName, Event, Phase, Receipt, float_to_json
from medgan_core.privacy.chain import NO_HEAD, Entry

Mechanism = Event
"""An event of no steps: events that differ in steps alone are the same mechanism."""

ChargeKey = tuple[str, int, Phase, int]
"""Run, round, phase, repeat."""


def mechanism(event: Event) -> Mechanism:
    """What an event is a number of steps of."""
    return replace(event, steps=0)


def count_steps(events: Iterable[Event]) -> Counter[Mechanism]:
    """Steps of each mechanism."""
    steps: Counter[Mechanism] = Counter()
    for event in events:
        steps[mechanism(event)] += event.steps
    return steps


def to_events(steps: Mapping[Mechanism, int]) -> tuple[Event, ...]:
    """One event for each mechanism that has steps."""
    return tuple(replace(kind, steps=count) for kind, count in steps.items() if count)


@dataclass
class Run:
    """The hold of one run: what was asked and what is left of it, for each account."""

    plan: str
    asked: dict[str, Counter[Mechanism]]
    left: dict[str, Counter[Mechanism]]
    closed: bool = False


@dataclass
class Charged:
    """One charge: its receipt (sealed when it has an update digest), its account, how often it was begun."""

    receipt: Receipt
    account: str
    attempts: int = 1

    @property
    def sealed(self) -> bool:
        """Whether the update is on disk."""
        return bool(self.receipt.update_digest)

    def is_for(self, request_digest: str, query: str, event: Event, account: str) -> bool:
        """Whether this charge and a request under its name go together: the same, or a sum's other cohort."""
        own = self.receipt
        same = (own.query, own.event, own.account) == (query, event, account)
        return same and (own.request_digest == request_digest or bool(event.shares and query))


@dataclass
class Books:
    """The state of a ledger after entry `sequence` with hash `head`. Changed by `apply` alone.

    `events` maps an account to its events, each under the sequence number of its charge; `owners` maps a
    patient's pseudonym to its account; `heirs` maps an account that was merged to the one it went into.
    """

    sequence: int = 0
    head: str = NO_HEAD
    ledger: str = ""
    site: str = ""
    key_fingerprint: str = ""
    events: dict[str, dict[int, Event]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    heirs: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    charges: dict[ChargeKey, Charged] = field(default_factory=dict)

    def apply(self, entry: Entry) -> None:
        """Take one more entry into account. LedgerError for one that this version cannot read."""
        actions = {
            "genesis": self._genesis,
            "enrol": self._enrol,
            "hold": self._hold,
            "charge": self._charge,
            "reopened": self._reopened,
            "seal": self._seal,
            "close": self._close,
        }
        try:
            actions[entry.kind](entry, entry.body)
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerError(
                f"entry {entry.sequence} ({entry.kind}) cannot be read by this version: open the ledger with "
                "the version that wrote it, or bring back the newest unbroken copy"
            ) from error
        self.sequence, self.head = entry.sequence, entry.hash

    def account(self, account: str) -> str:
        """The account under which this id lives on after merges. LedgerError for an unknown id."""
        while account in self.heirs:
            account = self.heirs[account]
        if account not in self.events:
            raise LedgerError(f"account {account} is not in this ledger: enrol the cohort first")
        return account

    def touched(self, pseudonyms: Iterable[str]) -> list[str]:
        """The accounts of these patients, oldest first."""
        found = {self.account(self.owners[patient]) for patient in pseudonyms if patient in self.owners}
        return [account for account in self.events if account in found]

    def spent(self, account: str) -> Counter[Mechanism]:
        """What was charged to an account."""
        return count_steps(self.events[self.account(account)].values())

    def held(self, account: str) -> Counter[Mechanism]:
        """What open runs have reserved on an account and not yet charged."""
        account = self.account(account)
        held: Counter[Mechanism] = Counter()
        for run in self.runs.values():
            if not run.closed:
                held.update(run.left.get(account, {}))
        return held

    def charged(self, run: str, round: int, phase: Phase) -> list[Charged]:
        """All charges of a round, the first one first: one, or more under secure sum."""
        found: list[Charged] = []
        while (key := (run, round, phase, len(found))) in self.charges:
            found.append(self.charges[key])
        return found

    def receipt(self, entry: Entry) -> Receipt:
        """The receipt of a charge entry."""
        place = {"site": self.site, "ledger": self.ledger, "sequence": entry.sequence, "head": entry.hash}
        return Receipt.from_json(entry.body["receipt"] | place)

    def _genesis(self, entry: Entry, body: dict[str, Any]) -> None:
        if entry.sequence != 1:
            raise ValueError("a second beginning")
        self.ledger, self.site, self.key_fingerprint = body["ledger"], body["site"], body["key_fingerprint"]

    def _enrol(self, entry: Entry, body: dict[str, Any]) -> None:
        account = body["account"]
        events = self.events.setdefault(account, {})
        for merged in body["merged"]:
            events.update(self.events.pop(merged))
            self.heirs[merged] = account
            for run in self.runs.values():
                _move(run.asked, merged, account)
                _move(run.left, merged, account)
        self.owners.update(dict.fromkeys(body["patients"], account))

    def _hold(self, entry: Entry, body: dict[str, Any]) -> None:
        asked = {
            account: count_steps(Event(**event) for event in events)
            for account, events in body["events"].items()
        }
        left = {account: Counter(steps) for account, steps in asked.items()}
        self.runs[body["run"]] = Run(body["plan"], asked, left)

    def _charge(self, entry: Entry, body: dict[str, Any]) -> None:
        receipt, account = self.receipt(entry), body["account"]
        self.runs[receipt.run].left[account].subtract(count_steps([receipt.event]))
        self.events[account][entry.sequence] = receipt.event
        self.charges[charge_key(receipt)] = Charged(receipt, account)

    def _reopened(self, entry: Entry, body: dict[str, Any]) -> None:
        self.charges[_key(body)].attempts = body["attempt"]

    def _seal(self, entry: Entry, body: dict[str, Any]) -> None:
        charged = self.charges[_key(body)]
        charged.receipt = replace(charged.receipt, update_digest=body["update_digest"])

    def _close(self, entry: Entry, body: dict[str, Any]) -> None:
        self.runs[body["run"]].closed = True


def receipt_body(
    place: ChargeKey,
    digests: tuple[str, str],
    account: AccountName,
    event: Event,
    spent: tuple[float, float | None],
    delta: float,
) -> dict[str, Any]:
    """A receipt in its charge entry: `digests` of request and query, `spent` with and without trust."""
    run, round_number, phase, repeat = place
    body = {"run": run, "round": round_number, "phase": phase.value, "request_digest": digests[0]}
    body |= {"account": account, "delta": delta}
    body |= {"event": event.to_json(), "spent": float_to_json(spent[0])}
    if spent[1] is not None:
        body |= {"local_event": event.local.to_json(), "local_spent": float_to_json(spent[1])}
        body |= {"query": digests[1], "repeat": repeat}
    return body


def charge_key(receipt: Receipt) -> ChargeKey:
    """Under which key a charge is found."""
    return receipt.run, receipt.round, receipt.phase, receipt.repeat


def _key(body: Mapping[str, Any]) -> ChargeKey:
    return body["run"], body["round"], Phase(body["phase"]), body.get("repeat", 0)


def _move(holds: dict[str, Counter[Mechanism]], source: str, target: str) -> None:
    if source in holds:
        holds.setdefault(target, Counter()).update(holds.pop(source))
