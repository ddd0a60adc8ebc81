"""A hospital's record of what was spent on its patients' privacy. Charge first, touch data afterwards.

Everything in here is private to the site, except for receipts and `PrivacyLedger.export`. A run passes
through `enrol` (which accounts do these patients have), `hold` (reserve the whole plan when it is approved),
then for each round `charge`, the work itself, `seal` (its update is on disk), and at last `close_run`. Each
step is on disk, with fsync, before the call returns; several processes and threads may share one ledger.
Nothing is ever refunded: whoever crashes between charge and seal repeats that round under its receipt.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from medgan_core.errors import DataError, LedgerError, ReceiptError
from medgan_core.messages import AccountName, Event, Phase, Receipt, float_to_json
from medgan_core.patients import Pseudonym
from medgan_core.privacy.accounts import (
    Books,
    Charged,
    Mechanism,
    Run,
    charge_key,
    count_steps,
    receipt_body,
    to_events,
)
from medgan_core.privacy.budget import Budget, LedgerPolicy, check_event
from medgan_core.privacy.chain import NO_HEAD, Chain, Entry
from medgan_core.privacy.site_key import load_key, propose_key
from medgan_core.privacy.witness import Witness

__all__ = ["Charge", "LedgerPolicy", "PrivacyLedger", "Witness"]


@dataclass(frozen=True)
class Charge:
    """The answer to `charge`. *open*: do the work; *sealed*: replay the update that is on disk."""

    receipt: Receipt
    state: Literal["open", "sealed"]
    attempt: int


class PrivacyLedger:
    """An open ledger, made by `open`; use it in a `with` block or call `disconnect` at the end.

    Errors: LedgerError for a file that is damaged, older than its witness or cannot be written (then nothing
    was charged, and the caller must not touch data); BudgetError where the site's cap or a hold says no;
    ReceiptError where something is asked for again with another content.
    """

    def __init__(self, path: Path, chain: Chain, site: str, policy: LedgerPolicy) -> None:
        """For `open` alone."""
        self.policy = policy
        self.path, self._chain = path, chain
        self._books = Books()
        self._budget = Budget(policy, self._books)
        self._lock = threading.RLock()
        if chain.blank():
            with chain.transaction():
                if chain.blank():  # still: another process may have been faster
                    self._found(site)
        self._catch_up()
        if self._books.sequence == 0:
            raise LedgerError(f"{path.name} has lost all its entries: bring back the newest copy of it")
        if self._books.site != site:
            raise LedgerError(
                f"{path.name} belongs to site {self._books.site!r}, not {site!r}: check the path in site.toml"
            )
        self._key = load_key(path, self._books.key_fingerprint)

    @classmethod
    def open(cls, path: Path, site: str, policy: LedgerPolicy, witness: Witness | None = None) -> Self:
        """Open the ledger at `path` and check its whole chain; create it and `<path>.key` where missing.

        With a witness nothing is created, and a ledger that is another or older than the witness is refused.
        """
        if witness is not None and not path.exists():
            raise LedgerError(f"{path.name} is missing. {witness.way_forward()}")
        chain = Chain(path)
        try:
            if witness is not None and chain.blank():
                raise LedgerError(f"{path.name} is empty. {witness.way_forward()}")
            ledger = cls(path, chain, site, policy)
            if witness is not None:
                ledger._compare(witness)
        except BaseException:
            chain.disconnect()
            raise
        return ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def disconnect(self) -> None:
        """Close the file. Runs stay open and go on when the ledger is opened again."""
        self._chain.disconnect()

    def enrol(self, patients: Iterable[str]) -> str:
        """The account of this cohort; patient keys are stored as HMAC under the ledger's own key alone.

        A new patient inherits what the others have spent; a cohort that touches several accounts merges them;
        a cohort without a known patient gets a new account. DataError for a cohort without patients.
        Every call is an entry: receipts tell the length of the chain, which must not say who is new.
        """
        pseudonyms = {self._key.pseudonym(patient) for patient in patients}
        if not pseudonyms:
            raise DataError("a cohort without patients has no account: check the filter of the data set")
        with self._change():
            touched = self._books.touched(pseudonyms)
            unknown = sorted(pseudonyms - self._books.owners.keys())
            account = touched[0] if touched else uuid.uuid4().hex
            self._append("enrol", {"account": account, "merged": touched[1:], "patients": unknown})
        return account

    def pseudonym(self, patient: str) -> Pseudonym:
        """The name under which this ledger knows a patient: an HMAC, in hex; it never leaves the site."""
        return self._key.pseudonym(patient)

    def knows(self, patient: str) -> bool:
        """Whether this patient has an account."""
        with self._reading() as books:
            return self._key.pseudonym(patient) in books.owners

    def compare(self, witness: Witness) -> None:
        """LedgerError, with the way forward, where this ledger is another or older than a copy says."""
        with self._reading():
            self._compare(witness)

    def entries(self) -> tuple[Entry, ...]:
        """The whole chain, checked again from the file. LedgerError where it breaks."""
        with self._reading():
            return tuple(self._chain.after(0, NO_HEAD))

    def accounts(self) -> tuple[str, ...]:
        """The accounts of this ledger, oldest first."""
        with self._reading() as books:
            return tuple(books.events)

    def open_runs(self) -> tuple[str, ...]:
        """The runs that hold something in this ledger and are not closed."""
        with self._reading() as books:
            return tuple(run for run, known in books.runs.items() if not known.closed)

    def hold(self, run: str, plan: str, events: Mapping[str, tuple[Event, ...]]) -> None:
        """Reserve all events of a run, by account, when it is approved; `plan` is the digest of its plan.

        Again with the same content: nothing happens. ReceiptError with another content or for a closed run;
        BudgetError where an account's committed ε would pass the cap.
        """
        checked = {account: tuple(map(check_event, listed)) for account, listed in events.items()}
        with self._change():
            asked: dict[str, Counter[Mechanism]] = {}
            for account, listed in checked.items():
                asked.setdefault(self._books.account(account), Counter()).update(count_steps(listed))
            known = self._books.runs.get(run)
            if known is not None:
                _same_hold(run, known, plan, asked)
                return
            for account, steps in asked.items():
                self._budget.check_hold(run, account, steps)
            body = {
                account: [event.to_json() for event in to_events(steps)] for account, steps in asked.items()
            }
            self._append("hold", {"run": run, "plan": plan, "events": body})

    def charge(
        self,
        run: str,
        round: int,
        phase: Phase,
        request_digest: str,
        account: str,
        account_name: AccountName,
        event: Event,
        query: str = "",
        max_repeats: int | None = None,
    ) -> Charge:
        """Charge one round *before* its data is touched; the event is taken from the run's hold.

        The same request again costs nothing: it gives the same receipt, open (repeat the work with fresh
        noise) or sealed (replay). Another content under the same run, round and phase: ReceiptError. Nothing
        that matches in the hold, no hold, a closed run, or a cap that was lowered since: BudgetError.

        Under secure sum `query` is the digest of what is summed, and `request_digest` has the cohort in it:
        the same query of another cohort is another charge, as often as hold, policy and the plan's
        `max_repeats` allow (None: the plan sets no bound of its own).
        """
        event, phase = check_event(event), Phase(phase)
        with self._change():
            account = self._books.account(account)
            earlier = self._books.charged(run, round, phase)
            for charged in earlier:
                same = charged.is_for(request_digest, query, event, account_name)
                if not same or self._books.account(charged.account) != account:
                    raise ReceiptError(
                        f"run {run!r}, round {round}, phase {phase}: charged for another request before; "
                        "repeat the identical request or start a new run"
                    )
                if charged.receipt.request_digest == request_digest:
                    return self._again(charged)
            self._budget.check_repeat(run, len(earlier), max_repeats)
            spent, local = self._budget.spend(run, account, event)
            place = (run, round, phase, len(earlier))
            digests = (request_digest, query)
            body = receipt_body(place, digests, account_name, event, (spent, local), self.policy.delta)
            entry = self._append("charge", {"account": account, "receipt": body})
        return Charge(self._books.receipt(entry), "open", 1)

    def sealed(self, run: str, round: int, phase: Phase, request_digest: str) -> Receipt | None:
        """The receipt of a request whose update is on disk; None where there is none."""
        with self._reading() as books:
            for charged in books.charged(run, round, phase):
                if charged.sealed and charged.receipt.request_digest == request_digest:
                    return charged.receipt
        return None

    def is_sealed(self, run: str, round: int, phase: Phase) -> bool:
        """Whether an update of this round is on disk, and may have left."""
        with self._reading() as books:
            return any(charged.sealed for charged in books.charged(run, round, phase))

    def seal(self, receipt: Receipt, update_digest: str) -> Receipt:
        """Record that the update with this digest is on disk; only then may anything of it leave the site.

        Gives the receipt with `update_digest`; the same digest again gives the same receipt. ReceiptError for
        another digest, or for a receipt that this ledger did not give.
        """
        with self._change():
            charged = self._books.charges.get(charge_key(receipt))
            if charged is None or _unsealed(charged.receipt) != _unsealed(receipt) or not update_digest:
                raise ReceiptError(
                    f"run {receipt.run!r}, round {receipt.round}, phase {receipt.phase}: not a receipt of "
                    "this ledger, or no digest of an update; charge the round first"
                )
            if charged.sealed and charged.receipt.update_digest != update_digest:
                raise ReceiptError(
                    f"run {receipt.run!r}, round {receipt.round}, phase {receipt.phase}: sealed with another "
                    "update; send the sealed one, a second one may not leave"
                )
            if not charged.sealed:
                self._append("seal", _round_of(receipt) | {"update_digest": update_digest})
            return replace(charged.receipt, update_digest=update_digest)

    def close_run(self, run: str) -> None:
        """Free what is left of a run's hold; what was charged stays charged. Its open rounds end here.

        Sealed rounds still replay. A second time: nothing happens. ReceiptError for a run without a hold.
        """
        with self._change():
            known = self._books.runs.get(run)
            if known is None:
                raise ReceiptError(f"run {run!r} has no hold in this ledger: check the name of the run")
            if not known.closed:
                self._append("close", {"run": run})

    def spent(self, account: str, delta: float | None = None, *, local: bool = False) -> float:
        """ε of all that was charged to an account, at `delta` or at the policy's δ.

        `local`: as it is where the other sites and the server of secure sums work together.
        """
        with self._reading():
            return self._budget.spent(account, delta, local=local)

    def committed(self, account: str) -> float:
        """ε of all that was charged to an account and all that open runs hold on it, at the policy's δ.

        Of secure sums it is the ε that the policy counts: the local one, or the trusted one.
        """
        with self._reading():
            return self._budget.committed(account)

    def remaining(self, account: str) -> float:
        """The cap less the committed ε, not below 0.

        A run whose own ε is not above this always fits. A somewhat larger one may fit too, because ε composes
        to less than its sum; `hold` decides.
        """
        with self._reading():
            return self._budget.remaining(account)

    def witness(self) -> Witness:
        """The head, to be kept outside of the site."""
        with self._reading() as books:
            return Witness(books.ledger, books.sequence, books.head)

    def verify(self) -> None:
        """Check the whole chain again, from the file. LedgerError where it breaks."""
        with self._reading():
            for _ in self._chain.after(0, NO_HEAD):
                pass

    def export(self) -> dict[str, Any]:
        """What an auditor may see, ready for JSON: the chain, and events and ε of each account.

        Bodies of enrolments are left out, since they tell the number of patients; their SHA-256 stays, so
        that the hashes of the chain can be computed from the export alone. Infinity is the string "inf".
        """
        with self._reading() as books:
            return {
                "ledger": books.ledger,
                "site": books.site,
                "policy": self.policy.to_json(),
                "sequence": books.sequence,
                "head": books.head,
                "accounts": {account: self._exported(account) for account in books.events},
                "entries": [_exported(entry) for entry in self._chain.after(0, NO_HEAD)],
            }

    def _exported(self, account: str) -> dict[str, Any]:
        events = self._books.events[account].values()
        exported = {
            "events": [event.to_json() for event in events],
            "spent": float_to_json(self._budget.spent(account)),
        }
        if not any(event.shares for event in events):
            return exported
        return exported | {"local_spent": float_to_json(self._budget.spent(account, local=True))}

    def _found(self, site: str) -> None:
        key = propose_key(self.path)
        self._chain.lay_out()
        self._append(
            "genesis", {"ledger": uuid.uuid4().hex, "site": site, "key_fingerprint": key.fingerprint()}
        )

    def _compare(self, witness: Witness) -> None:
        witness.check(self.path.name, self._books.ledger, self._books.sequence, self._chain.hash_at)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """One mutation: alone with the file, decided on all that other processes have appended."""
        with self._lock, self._chain.transaction():
            self._catch_up()
            yield

    @contextmanager
    def _reading(self) -> Iterator[Books]:
        with self._lock:
            self._catch_up()
            yield self._books

    def _catch_up(self) -> None:
        for entry in self._chain.after(self._books.sequence, self._books.head):
            self._books.apply(entry)

    def _append(self, kind: str, body: Mapping[str, Any]) -> Entry:
        # The books learn of it when they next catch up: by then it is on disk, or it never was.
        dated = {**body, "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        return self._chain.append(self._books.sequence, self._books.head, kind, dated)

    def _again(self, charged: Charged) -> Charge:
        if charged.sealed:
            return Charge(charged.receipt, "sealed", charged.attempts)
        self._budget.open_run(charged.receipt.run)
        attempt = charged.attempts + 1
        self._append("reopened", _round_of(charged.receipt) | {"attempt": attempt})
        return Charge(charged.receipt, "open", attempt)


def _same_hold(run: str, known: Run, plan: str, asked: Mapping[str, Counter[Mechanism]]) -> None:
    if known.closed:
        raise ReceiptError(f"run {run!r} is closed at this site: start a new run under a new name")
    if known.plan != plan or known.asked != asked:
        raise ReceiptError(
            f"run {run!r} was approved at this site with another plan: repeat that plan, or start a new run "
            "under a new name"
        )


def _round_of(receipt: Receipt) -> dict[str, Any]:
    found = {"run": receipt.run, "round": receipt.round, "phase": receipt.phase.value}
    return found | ({"repeat": receipt.repeat} if receipt.repeat else {})


def _unsealed(receipt: Receipt) -> Receipt:
    return replace(receipt, update_digest="", signature="")


def _exported(entry: Entry) -> dict[str, Any]:
    shown = {
        "sequence": entry.sequence,
        "kind": entry.kind,
        "body_digest": entry.body_digest,
        "previous": entry.previous,
        "hash": entry.hash,
    }
    return shown if entry.kind == "enrol" else shown | {"body": entry.body}
