"""All messages as a JSON head with groups of arrays, whatever carries them: Flower's records or a socket.

The key names of heads live here. No torch, no Flower, no gRPC.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from medgan_core.errors import UpdateError
from medgan_core.messages import Groups, Phase, Receipt, Request, Stage, StageReply, SumStage, Update
from medgan_core.proposals import Farewell, Proposal, Standing

_MESSAGES = "messages"

Asked = Request | Proposal | Farewell
"""What a coordinator sends."""
Answered = Update | StageReply | Standing
"""What a site sends back, if it does not refuse."""


class Envelope(NamedTuple):
    """A message on its way: `head` is plain JSON, `groups` the arrays."""

    head: dict[str, Any]
    groups: Groups


def asked_to_envelope(asked: Asked) -> Envelope:
    """What a coordinator asks, ready to be sent."""
    if isinstance(asked, Proposal):
        return Envelope({"proposal": asked.to_json()}, {})
    if isinstance(asked, Farewell):
        return Envelope({"farewell": asked.to_json()}, {})
    head: dict[str, Any] = {
        "run": asked.run,
        "round": asked.round,
        "phase": str(asked.phase),
        "plan": asked.plan,
    }
    if asked.secure is not None:
        head["secure"] = asked.secure.to_json()
    return Envelope(head, asked.groups)


def asked_from_envelope(envelope: Envelope) -> Asked:
    """The inverse of `asked_to_envelope`. Raises UpdateError where the message is none of ours."""
    with ours():
        head, groups = envelope
        if "proposal" in head:
            return Proposal.from_json(head["proposal"])
        if "farewell" in head:
            return Farewell.from_json(head["farewell"])
        secure = SumStage.from_json(head["secure"]) if "secure" in head else None
        return Request(
            str(head["run"]), int(head["round"]), Phase(head["phase"]), str(head["plan"]), groups, secure
        )


def answer_to_envelope(answer: Answered) -> Envelope:
    """A site's answer, ready to be sent."""
    if isinstance(answer, Standing):
        return Envelope({"standing": answer.to_json()}, {})
    if isinstance(answer, StageReply):
        head = {"site": answer.site, "round": answer.round, "stage": str(answer.stage), "nonce": answer.nonce}
        return Envelope(head, {_MESSAGES: answer.messages})
    head = {
        "site": answer.site,
        "round": answer.round,
        "phase": str(answer.phase),
        "metrics": dict(answer.metrics),
        "receipt": answer.receipt.to_json(),
    }
    return Envelope(head, answer.groups)


def refusal_to_envelope(site: str, reason: str) -> Envelope:
    """A site's no, with as much of the reason as the coordinator may know."""
    return Envelope({"site": site, "refusal": reason}, {})


def answer_from_envelope(envelope: Envelope) -> Answered | tuple[str, str]:
    """An answer, or (site, reason) of a refusal. Raises UpdateError where the message is none of ours."""
    with ours():
        head, groups = envelope
        if "refusal" in head:
            return str(head["site"]), str(head["refusal"])
        if "standing" in head:
            return Standing.from_json(head["standing"])
        if "stage" in head:
            messages = groups.get(_MESSAGES, {})
            return StageReply(
                str(head["site"]), int(head["round"]), Stage(head["stage"]), str(head["nonce"]), messages
            )
        return Update(
            str(head["site"]),
            int(head["round"]),
            Phase(head["phase"]),
            groups,
            {str(name): float(value) for name, value in head["metrics"].items()},
            Receipt.from_json(head["receipt"]),
        )


@contextmanager
def ours() -> Iterator[None]:
    """Whatever a stranger's message breaks on the way in, it is an UpdateError."""
    try:
        yield
    except Exception as error:
        raise UpdateError(f"a message that is none of ours: {type(error).__name__}") from error
