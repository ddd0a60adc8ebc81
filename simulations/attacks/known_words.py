"""Numbers of a site's unmasked vector, as they could have been written anywhere on the coordinator's side."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medgan_core.messages import Array
from medgan_core.privacy.grid import STEPS

_WINDOW = 4
_FLOATS = ("<f8", ">f8", "<f4", ">f4")
_WHOLE = ("<u8", ">u8")
_LONG_TEXT = 6


@dataclass(frozen=True)
class Word:
    """Bytes to look for, and how they would have been written: "u8 little base64" and the like."""

    form: str
    content: bytes


def words_of_sum(vector: Array) -> list[Word]:
    """Those of a vector on the grid of secure sums, uint64 [n], and of the reals that it stands for."""
    whole = vector.astype(np.uint64).ravel()
    real = whole.view(np.int64) / STEPS
    return [word for part in _windows(whole) for word in _written(part, _WHOLE)] + words_of_reals(real)


def words_of_reals(vector: Array) -> list[Word]:
    """Those of a vector of reals, [n], in double and single precision and as text."""
    reals = vector.astype(np.float64).ravel()
    return [word for part in _windows(reals) for word in _written(part, _FLOATS)]


def held(content: bytes, words: Sequence[Word]) -> set[str]:
    """The forms in which some bytes hold one of the words."""
    return {word.form for word in words if word.content in content}


def _windows(vector: Array) -> Iterator[Array]:
    """Four neighbours each, from the beginning, the end and between: by chance nothing else is like them."""
    last = len(vector) - _WINDOW
    for start in sorted({0, last // 3, 2 * last // 3, last}):
        yield vector[start : start + _WINDOW]


def _written(part: Array, types: Sequence[str]) -> Iterator[Word]:
    for kind in types:
        raw = part.astype(kind).tobytes()
        name = f"{kind[1:]} {'little' if kind[0] == '<' else 'big'}"
        yield Word(name, raw)
        yield Word(f"{name} hex", raw.hex().encode())
        yield Word(f"{name} HEX", raw.hex().upper().encode())
        for shift in range(3):
            # the characters that depend on what stands before and after are left out
            coded = base64.b64encode(b"\0" * shift + raw)[(0, 2, 3)[shift] : -4]
            yield Word(f"{name} base64", coded)
    for number in part.tolist():
        if len(text := repr(number)) > _LONG_TEXT:
            yield Word("text", text.encode())
            yield Word("text", str(_signed(number)).encode())


def _signed(number: float) -> float:
    return number - 2**64 if isinstance(number, int) and number >= 2**63 else number
