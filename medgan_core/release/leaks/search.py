"""Many values searched for in bytes at once, in the encodings that they may have been written in."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from medgan_core.release.leaks.values import Value

_CHUNK = 1 << 22
_PREFIX = 3
_LONGEST = 256
_LONG, _STRONG, _STRONG_NUMBER = 8, 8, 12
_ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be")


@dataclass(frozen=True)
class _Pattern:
    """Bytes in lower case, the value that they stand for, and whether neighbours may change their meaning."""

    content: bytes
    value: int
    bounded: bool
    strong: bool


class Search:
    """A search for fixed values; `find` says which of them, by their position, some bytes hold."""

    def __init__(self, values: Iterable[Value]) -> None:
        self.values = tuple(values)
        self._by_prefix: dict[bytes, list[_Pattern]] = {}
        self._table = np.zeros(1 << 8 * _PREFIX, np.bool_)
        for number, value in enumerate(self.values):
            for content, bounded in _written(value):
                self._add(_Pattern(content, number, bounded, _strong(value.text)))

    def find(self, content: bytes, strong_only: bool = False) -> set[int]:
        """Positions in `values` of all that these bytes hold, in upper or lower case.

        With `strong_only`, for pixels, only values that no bytes hold by chance: 8 characters or more with a
        letter among them, or 12 digits.
        """
        lowered, found = content.lower(), set[int]()
        for start in range(0, len(lowered), _CHUNK):
            for at in self._candidates(lowered[start : start + _CHUNK + _PREFIX - 1]):
                self._match(lowered, start + at, strong_only, found)
        return found

    def _add(self, pattern: _Pattern) -> None:
        prefix = pattern.content[:_PREFIX]
        if len(prefix) < _PREFIX:
            return
        self._by_prefix.setdefault(prefix, []).append(pattern)
        self._table[int.from_bytes(prefix, "big")] = True

    def _candidates(self, chunk: bytes) -> list[int]:
        raw = np.frombuffer(chunk, np.uint8)
        if len(raw) < _PREFIX:
            return []
        joined = (raw[:-2].astype(np.uint32) << 16) | (raw[1:-1].astype(np.uint32) << 8) | raw[2:]
        return [int(at) for at in np.flatnonzero(self._table[joined])]

    def _match(self, lowered: bytes, at: int, strong_only: bool, found: set[int]) -> None:
        for pattern in self._by_prefix[lowered[at : at + _PREFIX]]:
            if pattern.value in found or (strong_only and not pattern.strong):
                continue
            if lowered.startswith(pattern.content, at) and not (
                pattern.bounded and _inside(lowered, at, pattern)
            ):
                found.add(pattern.value)


def _written(value: Value) -> Iterator[tuple[bytes, bool]]:
    """The ways in which a value may be written, and whether its neighbours matter."""
    text = value.text
    forms = {text, text.lower(), text.upper()}
    plain = {form.encode(e, "ignore").lower() for form in forms for e in ("utf-8", "latin-1", value.charset)}
    for content in plain:
        yield content[:_LONGEST], text.isascii()
    for encoding in _ENCODINGS[2:]:
        yield text.encode(encoding).lower()[:_LONGEST], False
    if len(text) >= _LONG:
        raw = text.encode()
        yield raw.hex().encode()[:_LONGEST], False
        for shift in range(3):
            # the characters that depend on what stands before and after are left out
            coded = base64.b64encode(b"\0" * shift + raw)
            yield coded[(0, 2, 3)[shift] : -4].lower()[:_LONGEST], False


def _inside(lowered: bytes, at: int, pattern: _Pattern) -> bool:
    """Whether the bytes are part of a longer number or, where they are short, of a longer word."""
    content, end = pattern.content, at + len(pattern.content)
    before, after = lowered[max(at - 1, 0) : at], lowered[end : end + 1]
    if content[:1].isdigit() and (before.isdigit() or before == b"."):
        return True
    if content[-1:].isdigit() and (after.isdigit() or _goes_on(lowered, end)):
        return True
    if len(content) >= _LONG:
        return False
    return (content[:1].isalpha() and before.isalpha()) or (content[-1:].isalpha() and after.isalpha())


def _goes_on(lowered: bytes, end: int) -> bool:
    return lowered[end : end + 1] == b"." and lowered[end + 1 : end + 2].isdigit()


def _strong(text: str) -> bool:
    return len(text) >= (_STRONG if any(c.isalpha() for c in text) else _STRONG_NUMBER)
