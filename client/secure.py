"""A site's answers in the stages of a secure sum that touch no data, and what it keeps between two stages.

A session lives in memory alone, in a mapping that whoever runs the worker hands in; a site that was restarted
has lost its keys and counts as dropped out. The same request twice gets the same bytes; what comes out of
turn, is of another session or of another cohort than the pinned one is refused by name.
"""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medgan_core.errors import RefusedError
from medgan_core.messages import RELAYED, Array, Request, Stage, StageReply, SumStage
from medgan_core.privacy import secure_sum
from medgan_core.privacy.membership import Membership
from medgan_core.privacy.secure_sum import Party
from medgan_core.privacy.sum_rules import SumRules
from medgan_core.privacy.sum_session import Cohort, Session

Kept = MutableMapping[str, str]
_PLACE = "secure sum"


@dataclass(frozen=True)
class SumDesk:
    """What a site needs in every stage; `kept` holds the session that is under way, and is secret."""

    member: Membership
    rules: SumRules
    kept: Kept

    def reply(self, request: Request, asked: SumStage) -> StageReply:
        """The answer in any stage but the one with data."""
        session = self.session(request, asked)
        known = self._known(session)
        if known is not None and known["request"] == request.digest():
            return self._reply(request, asked, _from_hex(known["reply"]))
        party, messages = self._next(session, known, request, asked)
        self.keep(session, party, request, messages)
        return self._reply(request, asked, messages)

    def received(self, request: Request, asked: SumStage) -> tuple[Session, Party]:
        """The party of the stage with data, all checks done that need no data."""
        if request.query() != asked.query:
            raise RefusedError("secure sum: what is asked for is not what the sites agreed to sum")
        session = self.session(request, asked)
        party = self._party(session, self._known(session))
        sealed: dict[str, dict[str, bytes]] = {}
        for name, message in _relayed(request).items():
            sender, receiver = _pair(name)
            sealed.setdefault(sender, {})[receiver] = message
        return session, secure_sum.receive(party, sealed)

    def session(self, request: Request, asked: SumStage) -> Session:
        """What this request says that the sites agreed on, after a check of the cohort."""
        try:
            cohort = Cohort.from_json(asked.cohort)
        except ValueError:
            raise RefusedError("secure sum: a key of the cohort is no hex") from None
        cohort.check(self.member.pinned, self.member.name, self.rules)
        return Session(
            request.run, request.round, asked.query, asked.attempt, asked.nonce, cohort, self.rules
        )

    def keep(self, session: Session, party: Party, request: Request, messages: Mapping[str, bytes]) -> None:
        """Remember where the session is, and what was answered; an earlier session is forgotten."""
        body = {
            "session": session.id.hex(),
            "request": request.digest(),
            "reply": {name: message.hex() for name, message in messages.items()},
            "party": party.to_json(),
        }
        self.kept[_PLACE] = json.dumps(body)

    def _next(
        self, session: Session, known: Mapping[str, Any] | None, request: Request, asked: SumStage
    ) -> tuple[Party, dict[str, bytes]]:
        key, relayed = self.member.signing_key, _relayed(request)
        if asked.stage is Stage.ADVERTISE:
            if known is not None:
                raise RefusedError("secure sum: this session has begun; keys are made once in each")
            party, keys = secure_sum.advertise(session, self.member.name, key)
            return party, {"keys": keys}
        party = self._party(session, known)
        if asked.stage is Stage.SHARE:
            return secure_sum.share(party, relayed)
        if asked.stage is Stage.CONFIRM:
            party, signature = secure_sum.confirm(party, asked.survivors, key)
            return party, {"signature": signature}
        party, seeds, keys_of_lost = secure_sum.reveal(party, relayed)
        given = {f"seed {name}": piece for name, piece in seeds.items()}
        return party, given | {f"key {name}": piece for name, piece in keys_of_lost.items()}

    def _known(self, session: Session) -> dict[str, Any] | None:
        body: dict[str, Any] | None = json.loads(self.kept.get(_PLACE, "null"))
        return body if body is not None and body["session"] == session.id.hex() else None

    def _party(self, session: Session, known: Mapping[str, Any] | None) -> Party:
        if known is None:
            raise RefusedError("secure sum: this site has no such session; it began anew, or never took part")
        return Party.from_json(session, known["party"])

    def _reply(self, request: Request, asked: SumStage, messages: Mapping[str, bytes]) -> StageReply:
        arrays = {name: to_array(message) for name, message in messages.items()}
        return StageReply(self.member.name, request.round, asked.stage, asked.nonce, arrays)


def to_array(message: bytes) -> Array:
    """Bytes as they travel, uint8 [n]."""
    return np.frombuffer(message, dtype=np.uint8)


def _relayed(request: Request) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in request.groups.get(RELAYED, {}).items()}


def _from_hex(messages: Mapping[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(message) for name, message in messages.items()}


def _pair(name: str) -> tuple[str, str]:
    """Sender and receiver from the name under which a sealed share is relayed."""
    try:
        sender, receiver = json.loads(name)
    except (ValueError, TypeError):
        raise RefusedError("secure sum, shares: a message has no sender and receiver") from None
    return str(sender), str(receiver)
