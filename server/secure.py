"""A secure sum from the coordinator's side: five requests, and the sum at the end. No site's part is seen.

What one site sends to another is relayed to all, since it is small and sealed, so that every site gets the
same request. A site whose message does not fit is a refusal by name and counts as dropped out.
"""

import json
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from medgan_core.errors import MedGANError, QuorumError, UpdateError
from medgan_core.messages import RELAYED, Array, Receipt, Request, Stage, StageReply, SumStage, Update
from medgan_core.privacy import sum_keys
from medgan_core.privacy.grid import read
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.secure_sum import advertised_keys, survivors_text
from medgan_core.privacy.sum_keys import Words
from medgan_core.privacy.sum_rules import SumRules
from medgan_core.privacy.sum_server import Revealed, unmasked
from medgan_core.privacy.sum_session import Cohort, Session, chained
from server.aggregate import charged, check_charge, check_update
from server.exchange import Answer, Exchange, Refusal

T = TypeVar("T")
Messages = Mapping[str, bytes]


@dataclass
class SecureRound:
    """One attempt at a secure sum. `receipts` and `refusals` are what came, whether it ends well or not."""

    query: Request
    plan: PrivacyPlan
    rules: SumRules
    cohort: Cohort
    attempt: int
    exchange: Exchange
    receipts: list[Receipt] = field(default_factory=list)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    sites: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._asked = SumStage(
            Stage.ADVERTISE, self.attempt, secrets.token_hex(16), self.query.query(), self.cohort.to_json()
        )
        self._session = Session(
            self.query.run,
            self.query.round,
            self._asked.query,
            self.attempt,
            self._asked.nonce,
            self.cohort,
            self.rules,
        )

    def run(self, like: Array) -> Array:
        """The noisy sum over `sites`, float64 in the shape of `like`.

        Raises QuorumError where too few sites are left in a stage, RoundError where the shares do not fit.
        """
        session = self._session
        advertised = self._replies(Stage.ADVERTISE, {}, self._keys)
        sealed = self._replies(Stage.SHARE, advertised, _all_shares(advertised))
        flat = {json.dumps([s, r]): message for s, sent in sealed.items() for r, message in sent.items()}
        masked = self._masked(flat, like.size)
        self._asked = replace(self._asked, survivors=tuple(sorted(masked)))
        text = survivors_text(session, chained(chained(session.id, advertised), flat), tuple(masked))
        signed = self._replies(Stage.CONFIRM, {}, self._signature(text))
        revealed = self._replies(Stage.REVEAL, signed, _revealed(sealed, masked))
        keys = {name: advertised_keys(session, name, message)[1] for name, message in advertised.items()}
        total = unmasked(session, keys, sealed, masked, revealed)
        self.sites = tuple(sorted(masked))
        return read(total).reshape(like.shape)

    def _replies(self, stage: Stage, relayed: Messages, check: Callable[[str, Messages], T]) -> dict[str, T]:
        """What the sites sent in a stage, each checked on its own."""
        request = self._request(stage, relayed)

        def read_reply(answer: Answer) -> T:
            if not isinstance(answer, StageReply):
                raise UpdateError("an update, expected the messages of a stage")
            if (answer.round, answer.stage, answer.nonce) != (request.round, stage, self._asked.nonce):
                raise UpdateError(f"messages of {answer.stage} in another session or round")
            return check(answer.site, {name: array.tobytes() for name, array in answer.messages.items()})

        return self._enough(stage, self._heard(request, read_reply))

    def _masked(self, sealed: Messages, size: int) -> dict[str, Words]:
        request = self._request(Stage.MASK, sealed)
        expected = {"masked": {"sum": np.zeros(size, np.uint64)}}

        def read_update(answer: Answer) -> Words:
            if not isinstance(answer, Update):
                raise UpdateError("no update, expected a masked vector")
            receipt = charged(answer, request, self.plan)
            if receipt is not None:  # what is refused below has left its site all the same
                self.receipts.append(receipt)
            check_update(answer, request, expected)
            check_charge(answer, request, self.plan)
            words: Words = answer.groups["masked"]["sum"]
            return words

        return self._enough(Stage.MASK, self._heard(request, read_update))

    def _heard(self, request: Request, take: Callable[[Answer], T]) -> dict[str, T]:
        found: dict[str, T] = {}
        among = awaited(request)
        for answer in self.exchange(request):
            if isinstance(answer, Refusal):
                self.refusals.setdefault(answer.site, answer)
                continue
            try:
                if answer.site not in among or answer.site in found:
                    raise UpdateError("not expected, or a second time")
                found[answer.site] = take(answer)
            except MedGANError as error:
                where = f"{answer.site} in a secure sum, round {request.round}"
                self.refusals.setdefault(answer.site, Refusal(answer.site, f"{where}: {error}"))
        return {name: found[name] for name in sorted(found)}

    def _enough(self, stage: Stage, found: dict[str, T]) -> dict[str, T]:
        if len(found) < (least := least_answers(self.rules, stage)):
            reasons = "; ".join(refusal.reason for refusal in self.refusals.values()) or "no answer"
            raise QuorumError(
                f"round {self.query.round}: {len(found)} sites are left in stage {stage} of the secure sum, "
                f"needed are {least} ({reasons}). Mend the sites and resume the run"
            )
        return found

    def _request(self, stage: Stage, relayed: Messages) -> Request:
        arrays = {name: np.frombuffer(message, np.uint8) for name, message in relayed.items()}
        groups = {RELAYED: arrays} | (dict(self.query.groups) if stage is Stage.MASK else {})
        return replace(self.query, groups=groups, secure=replace(self._asked, stage=stage))

    def _keys(self, name: str, messages: Messages) -> bytes:
        advertised_keys(self._session, name, messages.get("keys", b""))
        return messages["keys"]

    def _signature(self, text: bytes) -> Callable[[str, Messages], bytes]:
        def check(name: str, messages: Messages) -> bytes:
            signature = messages.get("signature", b"")
            if not sum_keys.signed_by(self.cohort.keys[name], signature, text):
                raise UpdateError("no signature of it under this list of survivors")
            return signature

        return check


def least_answers(rules: SumRules, stage: Stage) -> int:
    """How many sites must answer in a stage: all that a sum needs, or those who can bring back a secret."""
    return rules.threshold if stage in (Stage.CONFIRM, Stage.REVEAL) else rules.survivors


def awaited(request: Request) -> frozenset[str]:
    """The sites whose answer in this stage is of use: who failed in an earlier one has dropped out."""
    asked, relayed = request.secure, request.groups.get(RELAYED, {})
    if asked is None:
        return frozenset()
    if asked.stage is Stage.ADVERTISE:
        return frozenset(asked.cohort)
    if asked.stage is Stage.CONFIRM:
        return frozenset(asked.survivors)
    return frozenset(json.loads(name)[0] if asked.stage is Stage.MASK else name for name in relayed)


def _all_shares(advertised: Collection[str]) -> Callable[[str, Messages], Messages]:
    def check(name: str, messages: Messages) -> Messages:
        if set(messages) != set(advertised) - {name}:
            raise UpdateError("shares for other sites than those that advertised keys")
        return messages

    return check


def _revealed(shared: Collection[str], masked: Collection[str]) -> Callable[[str, Messages], Revealed]:
    def check(name: str, messages: Messages) -> Revealed:
        seeds = {site: messages.get(f"seed {site}", b"") for site in masked}
        keys = {site: messages.get(f"key {site}", b"") for site in set(shared) - set(masked)}
        pieces = [*seeds.values(), *keys.values()]
        if len(messages) != len(pieces) or any(len(piece) != sum_keys.KEY_BYTES for piece in pieces):
            raise UpdateError("not one share of each site that the sum needs")
        return Revealed(seeds, keys)

    return check
