"""Known numbers are found however they are written, and not where they are not."""

import base64
import json
from collections.abc import Callable

import numpy as np
import pytest

from medgan_core.privacy.grid import STEPS
from simulations.attacks.known_words import held, words_of_reals, words_of_sum

WORDS = np.random.default_rng(0).integers(-(2**40), 2**40, 60).view(np.uint64)
REALS = WORDS.view(np.int64) / STEPS
WRITTEN: dict[str, Callable[[], bytes]] = {
    "u8 little": lambda: WORDS.astype("<u8").tobytes(),
    "u8 big": lambda: WORDS.astype(">u8").tobytes(),
    "f8 little": lambda: REALS.astype("<f8").tobytes(),
    "f8 big": lambda: REALS.astype(">f8").tobytes(),
    "f4 little": lambda: REALS.astype("<f4").tobytes(),
    "f4 big": lambda: REALS.astype(">f4").tobytes(),
    "u8 little hex": lambda: WORDS.tobytes().hex().encode(),
    "f8 big HEX": lambda: REALS.astype(">f8").tobytes().hex().upper().encode(),
    "u8 little base64": lambda: base64.b64encode(WORDS.tobytes()),
    "f8 little base64": lambda: base64.b64encode(b"ab" + REALS.tobytes()),
    "text": lambda: json.dumps(REALS.tolist()).encode(),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_every_form_is_found_at_any_offset(form: str) -> None:
    for before in (b"", b"x", b"xyz12"):
        assert form in held(before + WRITTEN[form]() + b"behind", words_of_sum(WORDS))


def test_signed_and_unsigned_text_are_found() -> None:
    for numbers in (WORDS.tolist(), WORDS.view(np.int64).tolist()):
        assert "text" in held(json.dumps(numbers).encode(), words_of_sum(WORDS))


def test_a_part_from_the_end_is_enough() -> None:
    assert "u8 little" in held(WORDS[-6:].tobytes(), words_of_sum(WORDS))


def test_reals_are_found_as_reals() -> None:
    assert held(REALS.astype("<f4").tobytes(), words_of_reals(REALS)) == {"f4 little"}


def test_nothing_is_found_in_other_numbers_nor_under_a_mask() -> None:
    other = np.random.default_rng(1).integers(0, 2**63, 20_000).astype(np.uint64)
    masked = WORDS + other[: len(WORDS)]
    assert (
        held(other.tobytes() + masked.tobytes() + other.tobytes().hex().encode(), words_of_sum(WORDS))
        == set()
    )
