"""Messages as chunks: every dtype that travels comes back as it was, and garbage is refused cheaply."""

import json
import struct
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from client.frames import CHUNK_BYTES, chunks_of, envelope_of
from medgan_core.envelope import Envelope
from medgan_core.errors import UpdateError
from medgan_core.messages import Array, Groups

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = ["?", "i1", "u1", "<i2", ">i4", "<i8", "<u8", ">u8", "<f2", ">f2", "<f4", ">f4", "<f8", "<c8"]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
NAMES = st.text(max_size=8)


@st.composite
def tensors(draw: st.DrawFn) -> Array:
    dtype = draw(st.sampled_from([*map(np.dtype, DTYPES), BFLOAT16]))
    shape = draw(SHAPES)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    array: Array = (raw % 2 if dtype == np.bool_ else raw).view(dtype).reshape(shape)
    return array.T if draw(st.booleans()) else array


GROUPS = st.dictionaries(NAMES, st.dictionaries(NAMES, tensors(), max_size=4), max_size=3)
HEADS = st.dictionaries(NAMES, st.recursive(st.integers() | st.text() | st.none(), st.lists), max_size=3)


def same(left: Groups, right: Groups) -> None:
    assert {g: list(a) for g, a in left.items()} == {g: list(a) for g, a in right.items()}
    for group in left:
        for name, array in left[group].items():
            other = right[group][name]
            assert (array.dtype, array.shape) == (other.dtype, other.shape)
            assert array.tobytes() == other.tobytes()


@given(HEADS, GROUPS, st.integers(1, 300))
def test_what_goes_in_comes_out(head: dict[str, Any], groups: Groups, chunk: int) -> None:
    chunks = list(chunks_of(Envelope(head, groups), chunk))
    assert all(len(c) == chunk for c in chunks[:-1])
    assert len(chunks[-1]) <= chunk
    back = envelope_of(chunks)
    assert back.head == head
    same(groups, back.groups)


@given(GROUPS, st.data())
def test_a_stream_that_is_cut_off_is_refused(groups: Groups, data: st.DataObject) -> None:
    stream = b"".join(chunks_of(Envelope({"a": 1}, groups)))
    cut = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(UpdateError):
        envelope_of([stream[:cut]])


@given(GROUPS, st.binary(min_size=1, max_size=20))
def test_a_stream_that_goes_on_is_refused(groups: Groups, more: bytes) -> None:
    with pytest.raises(UpdateError, match="goes on"):
        envelope_of([*chunks_of(Envelope({}, groups)), more])


@given(GROUPS, st.data())
def test_a_garbled_stream_is_an_update_error_or_a_message_and_never_large(
    groups: Groups, data: st.DataObject
) -> None:
    stream = bytearray(b"".join(chunks_of(Envelope({"run": "r"}, groups))))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    tracemalloc.start()
    try:
        envelope_of([bytes(stream)], limit=1 << 20)
    except UpdateError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 << 20


@given(st.lists(st.binary(max_size=64), max_size=4))
def test_any_bytes_at_all_are_an_update_error(chunks: list[bytes]) -> None:
    with pytest.raises(UpdateError):
        envelope_of(chunks)


def framed(body: object, tail: bytes = b"") -> list[bytes]:
    table = json.dumps(body).encode()
    return [struct.pack("<4sI", b"MGF1", len(table)) + table + tail]


@pytest.mark.parametrize(
    "described",
    [
        ["O", [1]],
        ["|V8", [1]],
        ["<U4", [1]],
        ["<M8[s]", [1]],
        ["<f4,<f4", [1]],
        ["<f4", [-1]],
        ["<f4", [1.0]],
        ["<f4", [True]],
        ["<f4", ["1"]],
        ["<f4", [2**70]],
        ["<f4", [0, 2**61]],
        ["<f4", [1] * 100],
        ["<f4", 3],
        ["<f4"],
        [4, [1]],
    ],
)
def test_a_table_that_lies_is_an_update_error(described: object) -> None:
    with pytest.raises(UpdateError):
        envelope_of(framed({"head": {}, "groups": {"g": {"w": described}}}, bytes(16)))


@pytest.mark.parametrize(
    "body", [[], {}, {"head": {}}, {"head": [], "groups": {}}, {"head": {}, "groups": 3}, "x"]
)
def test_a_table_of_another_form_is_an_update_error(body: object) -> None:
    with pytest.raises(UpdateError):
        envelope_of(framed(body))


def test_a_table_nested_too_deep_is_an_update_error() -> None:
    table = b"[" * 200_000
    with pytest.raises(UpdateError):
        envelope_of([struct.pack("<4sI", b"MGF1", len(table)) + table])


def test_what_is_over_the_limit_is_refused_before_it_is_allocated() -> None:
    claim = framed({"head": {}, "groups": {"g": {"w": ["<f4", [2**28]]}}})
    tracemalloc.start()
    with pytest.raises(UpdateError, match="1073741824 bytes: expected at most 1000"):
        envelope_of(claim, limit=1000)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_claim_of_a_long_table_is_refused() -> None:
    with pytest.raises(UpdateError, match="none of ours"):
        envelope_of([struct.pack("<4sI", b"MGF1", 2**32 - 1)])


def test_a_chunk_that_is_too_long_is_refused() -> None:
    with pytest.raises(UpdateError, match="expected at most 1048576"):
        envelope_of([bytes(CHUNK_BYTES + 1)])


def test_objects_do_not_travel() -> None:
    with pytest.raises(UpdateError, match="w has dtype object"):
        list(chunks_of(Envelope({}, {"g": {"w": np.array([object()])}})))


def test_a_head_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(UpdateError, match="expected at most"):
        list(chunks_of(Envelope({"study": "x" * (5 << 20)}, {})))


def test_arrays_that_come_back_may_be_written_to() -> None:
    back = envelope_of(chunks_of(Envelope({}, {"g": {"w": np.arange(3)}})))
    back.groups["g"]["w"][0] = 7
    assert back.groups["g"]["w"].tolist() == [7, 1, 2]
