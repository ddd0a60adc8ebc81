"""A message as a stream of chunks of bytes, and back, for the socket between a node and its trainer.

A stream is 8 bytes (a mark and the length of the table), the table (JSON: the message's head, and of every
tensor its group, name, dtype and shape), then the tensors' bytes one after the other. A tensor is allocated
when its turn comes, and nothing is allocated that the limit does not cover, whatever the other side claims.
"""

import json
import math
import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from medgan_core.envelope import Envelope, ours
from medgan_core.errors import UpdateError
from medgan_core.messages import Array

CHUNK_BYTES = 1 << 20
"""The longest chunk, in bytes."""
LIMIT_BYTES = 1 << 30
"""The longest stream that is accepted unless told otherwise, in bytes."""

_MARK = b"MGF1"
_PRELUDE = struct.Struct("<4sI")
_TABLE_BYTES = 4 << 20
_DTYPE = re.compile(r"\|[biu]1|[<>][iu][248]|[<>]f[248]|[<>]c(8|16)|bfloat16")


def chunks_of(envelope: Envelope, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The stream of a message in chunks of `chunk_bytes`, the last one shorter; made as they are asked for.

    Raises, before the first chunk, UpdateError for a dtype that cannot travel (objects, strings,
    records) and for a table that is too long.
    """
    table = json.dumps({"head": envelope.head, "groups": _described(envelope)}).encode()
    if len(table) > _TABLE_BYTES:
        raise UpdateError(f"the head of a message has {len(table)} bytes: expected at most {_TABLE_BYTES}")
    return _cut(_PRELUDE.pack(_MARK, len(table)) + table, envelope, chunk_bytes)


def _cut(start: bytes, envelope: Envelope, chunk_bytes: int) -> Iterator[bytes]:
    waiting = bytearray(start)
    for arrays in envelope.groups.values():
        for array in arrays.values():
            rest = _bytes_of(array)
            while len(waiting) + len(rest) >= chunk_bytes:
                if waiting:
                    taken = max(0, chunk_bytes - len(waiting))
                    waiting += rest[:taken]
                    yield bytes(memoryview(waiting)[:chunk_bytes])
                    del waiting[:chunk_bytes]
                else:
                    taken = chunk_bytes
                    yield rest[:taken].tobytes()
                rest = rest[taken:]
            waiting += rest
    for at in range(0, len(waiting), chunk_bytes):
        yield bytes(waiting[at : at + chunk_bytes])


def envelope_of(chunks: Iterable[bytes], limit: int = LIMIT_BYTES) -> Envelope:
    """The inverse of `chunks_of`, for a stream of at most `limit` bytes.

    Raises UpdateError for a stream that is too long, cut off, or none of ours. What `chunks` itself raises
    passes through.
    """
    stream = _Stream(chunks)
    mark, length = _PRELUDE.unpack(stream.take(_PRELUDE.size))
    if mark != _MARK or length > _TABLE_BYTES:
        raise UpdateError("a stream that is none of ours: expected one that the node's own MedGAN writes")
    table = stream.take(length)
    with ours():
        body = json.loads(bytes(table))
        head, layout = _checked(body["head"]), _layout(body["groups"])
    size = sum(
        dtype.itemsize * math.prod(shape) for group in layout.values() for dtype, shape in group.values()
    )
    if size > limit:
        raise UpdateError(f"a message of {size} bytes: expected at most {limit}")
    groups = {
        group: {name: _array(stream, dtype, shape) for name, (dtype, shape) in tensors.items()}
        for group, tensors in layout.items()
    }
    stream.end()
    return Envelope(head, groups)


class _Stream:
    """The bytes of chunks in order."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")

    def take(self, size: int) -> bytearray:
        """The next `size` bytes, which must be few: see `fill` for many."""
        taken = bytearray()
        while len(taken) < size:
            taken += self._next(size - len(taken))
        return taken

    def fill(self, target: memoryview) -> None:
        """Put the next bytes into a buffer, all of it."""
        start = 0
        while start < len(target):
            part = self._next(len(target) - start)
            target[start : start + len(part)] = part
            start += len(part)

    def end(self) -> None:
        """Nothing may be left."""
        if len(self._chunk) or any(self._chunks):
            raise UpdateError("a message that goes on after its last tensor")

    def _next(self, most: int) -> memoryview:
        while not len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                raise UpdateError("a message was cut off before its last tensor")
            if len(chunk) > CHUNK_BYTES:
                raise UpdateError(f"a chunk of {len(chunk)} bytes: expected at most {CHUNK_BYTES}")
            self._chunk = memoryview(chunk)
        part, self._chunk = self._chunk[:most], self._chunk[most:]
        return part


def _described(envelope: Envelope) -> dict[str, Any]:
    return {
        group: {name: [_dtype_name(name, array), list(array.shape)] for name, array in arrays.items()}
        for group, arrays in envelope.groups.items()
    }


def _dtype_name(name: str, array: Array) -> str:
    described = "bfloat16" if array.dtype.name == "bfloat16" else array.dtype.str
    if not _DTYPE.fullmatch(described):
        raise UpdateError(f"{name} has dtype {array.dtype}: expected numbers or booleans")
    return described


def _dtype(described: Any) -> np.dtype[Any]:
    if not _DTYPE.fullmatch(described):
        raise ValueError(described)
    if described == "bfloat16":
        from ml_dtypes import bfloat16

        described = bfloat16
    dtype: np.dtype[Any] = np.dtype(described)
    return dtype


def _bytes_of(array: Array) -> memoryview:
    """The bytes of an array in C order, [n]; not copied where they lie so already."""
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _checked(head: Any) -> dict[str, Any]:
    if not isinstance(head, dict):
        raise TypeError(type(head))
    return head


def _layout(groups: Any) -> dict[str, dict[str, tuple[np.dtype[Any], tuple[int, ...]]]]:
    return {
        group: {name: (_dtype(dtype), _shape(shape)) for name, (dtype, shape) in tensors.items()}
        for group, tensors in groups.items()
    }


def _shape(shape: Any) -> tuple[int, ...]:
    if not all(type(size) is int and 0 <= size < 2**62 for size in shape):
        raise ValueError(shape)
    return tuple(shape)


def _array(stream: _Stream, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    with ours():  # a shape that numpy does not take; its size is within the limit
        flat = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)
        array: Array = flat.view(dtype).reshape(shape)
    stream.fill(memoryview(flat.data))
    return array
