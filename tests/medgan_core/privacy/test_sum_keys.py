from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.privacy.sum_keys import (
    agreed_key,
    combine,
    mask,
    new_secret,
    public_of,
    seal,
    sign,
    signed_by,
    split,
    unseal,
    verify_key_of,
)

A, B = bytes(range(32)), bytes(range(1, 33))


def test_two_sites_agree_on_a_key_and_another_use_gives_another() -> None:
    key = agreed_key(A, public_of(B), b"use")
    assert key == agreed_key(B, public_of(A), b"use")
    assert key != agreed_key(A, public_of(B), b"other use")
    assert key != agreed_key(A, public_of(new_secret()), b"use")


def test_a_public_key_of_small_order_is_refused() -> None:
    with pytest.raises(ValueError):
        agreed_key(A, bytes(32), b"use")


def test_a_mask_is_the_same_for_whoever_knows_the_seed_and_no_other_seed_is_like_it() -> None:
    assert np.array_equal(mask(A, 100), mask(A, 100))
    assert np.array_equal(mask(A, 100)[:10], mask(A, 10))
    assert not np.any(mask(A, 1000) == mask(B, 1000))
    assert mask(A, 3).dtype == np.uint64


def test_secrets_are_fresh() -> None:
    assert len({new_secret() for _ in range(100)}) == 100


@pytest.mark.parametrize("spoil", ["key", "context", "content", "nothing"])
def test_what_is_sealed_opens_under_its_key_and_context_alone(spoil: str) -> None:
    sealed = seal(A, b"share", b"context")
    key = B if spoil == "key" else A
    context = b"another" if spoil == "context" else b"context"
    content = bytes([sealed[0] ^ 1]) + sealed[1:] if spoil == "content" else sealed
    assert unseal(key, content, context) == (b"share" if spoil == "nothing" else None)
    assert unseal(A, b"", b"context") is None


def test_a_signature_is_of_one_key_and_one_message() -> None:
    signature = sign(A, b"list")
    assert signed_by(verify_key_of(A), signature, b"list")
    assert not signed_by(verify_key_of(B), signature, b"list")
    assert not signed_by(verify_key_of(A), signature, b"another list")
    assert not signed_by(verify_key_of(A), b"", b"list")
    assert not signed_by(b"no key", signature, b"list")


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(2, 7), st.integers(0, 4), st.randoms())
def test_any_threshold_shares_give_the_secret_back(
    secret: bytes, threshold: int, more: int, random: Random
) -> None:
    shares = split(secret, threshold, threshold + more)
    chosen = random.sample(sorted(shares), threshold)
    assert combine({number: shares[number] for number in chosen}) == secret


def test_one_share_less_or_another_one_does_not() -> None:
    shares = split(A, 3, 5)
    assert all(combine({n: shares[n] for n in pair}) != A for pair in combinations(shares, 2))
    assert combine({1: shares[1], 2: shares[2], 3: bytes(32)}) != A


def test_shares_below_the_threshold_are_uniform_whatever_the_secret() -> None:
    """A share of an all-zero secret has as many ones as zeros in it."""
    ones = sum(sum(byte.bit_count() for byte in split(bytes(32), 2, 2)[1]) for _ in range(200))
    assert abs(ones - 200 * 128) < 5 * (200 * 64) ** 0.5
