"""Requests and updates as Flower records, and back. All key names of the wire live here; no torch.

Each group of arrays travels as one ArrayRecord under its own name; everything else is one ConfigRecord.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MessageType, RecordDict

from medgan_core.errors import UpdateError
from medgan_core.messages import Groups, Phase, Receipt, Request, Stage, StageReply, SumStage, Update

_HEAD = "medgan"
_BODY = "json"
_ARRAYS = "arrays."
_MESSAGES = "messages"

MESSAGE_TYPES: dict[Phase, str] = {
    Phase.ONE_SHOT: MessageType.QUERY,
    Phase.TRAIN: MessageType.TRAIN,
    Phase.GATE: MessageType.EVALUATE,
    Phase.EVALUATE: MessageType.EVALUATE,
}


def request_to_records(request: Request) -> RecordDict:
    """A request, ready to be the content of a message."""
    head: dict[str, Any] = {
        "run": request.run,
        "round": request.round,
        "phase": str(request.phase),
        "plan": request.plan,
    }
    if request.secure is not None:
        head["secure"] = request.secure.to_json()
    return _pack(request.groups, head)


def request_from_records(records: RecordDict) -> Request:
    """The inverse of `request_to_records`. Raises UpdateError where the records are none of ours."""
    with _ours():
        groups, head = _unpack(records)
        secure = SumStage.from_json(head["secure"]) if "secure" in head else None
        return Request(
            str(head["run"]), int(head["round"]), Phase(head["phase"]), str(head["plan"]), groups, secure
        )


def answer_to_records(answer: Update | StageReply) -> RecordDict:
    """A site's answer, ready to be the content of a reply."""
    if isinstance(answer, Update):
        return update_to_records(answer)
    head = {"site": answer.site, "round": answer.round, "stage": str(answer.stage), "nonce": answer.nonce}
    return _pack({_MESSAGES: answer.messages}, head)


def update_to_records(update: Update) -> RecordDict:
    """An update, ready to be the content of a reply."""
    head = {
        "site": update.site,
        "round": update.round,
        "phase": str(update.phase),
        "metrics": dict(update.metrics),
        "receipt": update.receipt.to_json(),
    }
    return _pack(update.groups, head)


def refusal_to_records(site: str, reason: str) -> RecordDict:
    """A site's no, with as much of the reason as the coordinator may know."""
    return _pack({}, {"site": site, "refusal": reason})


def answer_from_records(records: RecordDict) -> Update | StageReply | tuple[str, str]:
    """An answer, or (site, reason) of a refusal. Raises UpdateError where the records are none of ours."""
    with _ours():
        groups, head = _unpack(records)
        if "refusal" in head:
            return str(head["site"]), str(head["refusal"])
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


def _pack(groups: Groups, head: dict[str, Any]) -> RecordDict:
    records = RecordDict({_HEAD: ConfigRecord({_BODY: json.dumps(head)})})
    for group, arrays in groups.items():
        record = {name: Array(np.asarray(array, order="C")) for name, array in arrays.items()}
        records[_ARRAYS + group] = ArrayRecord(record)
    return records


def _unpack(records: RecordDict) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    head = json.loads(str(records.config_records[_HEAD][_BODY]))
    groups = {
        name.removeprefix(_ARRAYS): {key: array.numpy() for key, array in record.items()}
        for name, record in records.array_records.items()
    }
    return groups, head


@contextmanager
def _ours() -> Iterator[None]:
    """Whatever a stranger's records break on the way in, it is an UpdateError."""
    try:
        yield
    except Exception as error:
        raise UpdateError(f"a message of Flower that is none of ours: {type(error).__name__}") from error
