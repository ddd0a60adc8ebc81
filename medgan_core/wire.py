"""Messages as Flower records, and back. No torch.

Each group of arrays travels as one ArrayRecord under its own name; the head is one ConfigRecord.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MessageType, RecordDict
from numpy.typing import NDArray

from medgan_core.dtypes import BFLOAT16, raw_bytes, spelled
from medgan_core.envelope import (
    Answered,
    Asked,
    Envelope,
    answer_from_envelope,
    answer_to_envelope,
    asked_from_envelope,
    asked_to_envelope,
    ours,
    refusal_to_envelope,
)
from medgan_core.messages import Phase, Request

_HEAD = "medgan"
_BODY = "json"
_ARRAYS = "arrays."
_RAW = "medgan.raw"

_TYPES: Mapping[Phase, str] = {
    Phase.ONE_SHOT: MessageType.QUERY,
    Phase.TRAIN: MessageType.TRAIN,
    Phase.GATE: MessageType.EVALUATE,
    Phase.EVALUATE: MessageType.EVALUATE,
    Phase.ATTACK: MessageType.EVALUATE,
    Phase.CONTROL: MessageType.EVALUATE,
}


def message_type(asked: Asked) -> str:
    """Which of Flower's kinds of message carries this; the handlers of all kinds do the same."""
    return _TYPES[asked.phase] if isinstance(asked, Request) else MessageType.QUERY


def asked_to_records(asked: Asked) -> RecordDict:
    """What a coordinator asks, ready to be the content of a message."""
    return envelope_to_records(asked_to_envelope(asked))


def asked_from_records(records: RecordDict) -> Asked:
    """The inverse of `asked_to_records`. Raises UpdateError where the records are none of ours."""
    return asked_from_envelope(envelope_from_records(records))


def answer_to_records(answer: Answered) -> RecordDict:
    """A site's answer, ready to be the content of a reply."""
    return envelope_to_records(answer_to_envelope(answer))


def refusal_to_records(site: str, reason: str) -> RecordDict:
    """A site's no, with as much of the reason as the coordinator may know."""
    return envelope_to_records(refusal_to_envelope(site, reason))


def answer_from_records(records: RecordDict) -> Answered | tuple[str, str]:
    """An answer, or (site, reason) of a refusal. Raises UpdateError where the records are none of ours."""
    return answer_from_envelope(envelope_from_records(records))


def envelope_to_records(envelope: Envelope) -> RecordDict:
    """A message of ours, whatever it says, as records."""
    records = RecordDict({_HEAD: ConfigRecord({_BODY: json.dumps(envelope.head)})})
    for group, arrays in envelope.groups.items():
        records[_ARRAYS + group] = ArrayRecord({name: _packed(array) for name, array in arrays.items()})
    return records


def envelope_from_records(records: RecordDict) -> Envelope:
    """The inverse of `envelope_to_records`. Raises UpdateError where the records are none of ours."""
    with ours():
        head = json.loads(str(records.config_records[_HEAD][_BODY]))
        groups = {
            name.removeprefix(_ARRAYS): {key: _unpacked(array) for key, array in record.items()}
            for name, record in records.array_records.items()
        }
        return Envelope(head, groups)


def _packed(array: NDArray[Any]) -> Array:
    """As Flower packs it, but for bfloat16, which it sends as a void and then refuses: its plain bytes."""
    if array.dtype != BFLOAT16:
        return Array(np.asarray(array, order="C"))
    return Array(spelled(array.dtype), tuple(array.shape), _RAW, bytes(raw_bytes(array)))


def _unpacked(array: Array) -> NDArray[Any]:
    if array.stype == _RAW and array.dtype != spelled(BFLOAT16):
        raise TypeError(f"plain bytes of {array.dtype}")
    raw = array.stype == _RAW
    read: NDArray[Any] = np.frombuffer(array.data, BFLOAT16).reshape(array.shape) if raw else array.numpy()
    return read
