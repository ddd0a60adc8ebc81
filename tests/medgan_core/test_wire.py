"""What goes over the wire comes back bit by bit, and what strangers send is an UpdateError."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medgan_core.dtypes import BFLOAT16
from medgan_core.errors import UpdateError
from medgan_core.messages import Event, Groups, Phase, Receipt, Request, Update
from medgan_core.wire import (
    answer_from_records,
    answer_to_records,
    asked_to_records,
    refusal_to_records,
)
from tests.medgan_core.asking import request_from_records

DTYPES = ["<f4", "<f8", "<f2", "<i8", "<i4", "|u1", "|b1", ">f4"]
NAMES = st.text("abcdefghij.0123456789_", min_size=1, max_size=12)
TENSORS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))
)
GROUPS = st.dictionaries(NAMES, st.dictionaries(NAMES, TENSORS, min_size=1, max_size=3), max_size=3)
RECEIPT = Receipt(
    site="north",
    ledger="l",
    run="run",
    round=3,
    phase=Phase.TRAIN,
    request_digest="d",
    account="training",
    event=Event(1.1, 0.05, 100),
    spent=float("inf"),
    delta=1e-5,
    sequence=7,
    head="h",
    update_digest="u",
)


def same(left: Groups, right: Groups) -> bool:
    if {group: set(inner) for group, inner in left.items()} != {g: set(i) for g, i in right.items()}:
        return False
    pairs = [(left[group][name], right[group][name]) for group in left for name in left[group]]
    return all(
        (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
        for a, b in ((np.asarray(a), np.asarray(b)) for a, b in pairs)
    )


@given(GROUPS, st.sampled_from(Phase), st.integers(0, 10**6), st.text())
def test_a_request_comes_back_as_it_was(groups: Groups, phase: Phase, number: int, run: str) -> None:
    request = Request(run, number, phase, "plan", groups)
    back = request_from_records(asked_to_records(request))
    assert (back.run, back.round, back.phase, back.plan) == (run, number, phase, "plan")
    assert same(back.groups, groups)
    assert back.digest() == request.digest()


@given(GROUPS, st.dictionaries(NAMES, st.floats(), max_size=3), st.text(min_size=1))
def test_an_update_comes_back_with_its_digest(groups: Groups, metrics: dict[str, float], site: str) -> None:
    update = Update(site, 3, Phase.TRAIN, groups, metrics, RECEIPT)
    back = answer_from_records(answer_to_records(update))
    assert isinstance(back, Update)
    assert back.digest() == update.digest()
    assert back.receipt == RECEIPT
    assert same(back.groups, groups)


def test_an_array_that_is_not_contiguous_keeps_its_values() -> None:
    array = np.arange(12.0).reshape(3, 4).T[::2]
    back = request_from_records(asked_to_records(Request("r", 0, Phase.TRAIN, "p", {"g": {"a": array}})))
    assert np.array_equal(back.groups["g"]["a"], array)


@pytest.mark.parametrize("shape", [(), (0, 2), (3,), (2, 3)])
def test_bfloat16_comes_back_bit_by_bit(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape).astype(BFLOAT16)
    request = Request("r", 0, Phase.TRAIN, "p", {"g": {"a": array.T, "n": np.array(3)}})
    back = request_from_records(asked_to_records(request))
    assert same(back.groups, request.groups)
    assert back.digest() == request.digest()


@pytest.mark.parametrize("dtype", ["float8_e4m3", "bfloat16"])
def test_plain_bytes_of_another_kind_or_size_are_refused(dtype: str) -> None:
    records = asked_to_records(Request("r", 0, Phase.TRAIN, "p", {"g": {"a": np.ones(2, BFLOAT16)}}))
    (name,) = records.array_records
    records[name] = ArrayRecord({"a": Array(dtype, (5,), "medgan.raw", b"123456")})
    with pytest.raises(UpdateError, match="none of ours"):
        request_from_records(records)


def test_a_refusal_comes_back_as_site_and_reason() -> None:
    assert answer_from_records(refusal_to_records("north", "not approved")) == ("north", "not approved")


def body(text: object) -> RecordDict:
    return RecordDict({"medgan": ConfigRecord({"json": text if isinstance(text, str) else json.dumps(text)})})


def broken_array() -> RecordDict:
    records = body({"run": "r", "round": 0, "phase": "train", "plan": "p"})
    records["arrays.g"] = ArrayRecord({"a": Array("float32", (2,), "numpy.ndarray", b"no array at all")})
    return records


STRANGERS: dict[str, Callable[[], RecordDict]] = {
    "nothing": RecordDict,
    "another app": lambda: RecordDict({"config": ConfigRecord({"lr": 0.1})}),
    "no json": lambda: body("{"),
    "a list": lambda: body([1, 2]),
    "a number": lambda: body(7),
    "an unknown phase": lambda: body({"run": "r", "site": "s", "round": 0, "phase": "steal", "plan": "p"}),
    "a round that is no number": lambda: body({"run": "r", "round": [], "phase": "train", "plan": "p"}),
    "no metrics": lambda: body({"site": "s", "round": 0, "phase": "train", "metrics": None, "receipt": {}}),
    "bytes that are no array": broken_array,
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("read", [request_from_records, answer_from_records])
def test_what_strangers_send_is_refused(read: Callable[[RecordDict], Any], stranger: str) -> None:
    with pytest.raises(UpdateError, match="none of ours"):
        read(STRANGERS[stranger]())


def test_a_thin_client_loads_no_torch() -> None:
    code = "import sys, client.app, medgan_core.wire; sys.exit(int('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
