"""A card carries two public keys and a fingerprint that is of these keys and no others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from medgan_core.errors import InputError
from medgan_core.public_card import PublicCard, fingerprint_of


def node_key(curve: Any = None) -> str:
    key = ec.generate_private_key(curve or ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.fixture
def card() -> PublicCard:
    return PublicCard("north", node_key(), "ab" * 32)


def test_a_card_comes_back_as_it_was(card: PublicCard, tmp_path: Path) -> None:
    card.write(tmp_path / "public-card.json")
    assert PublicCard.read(tmp_path / "public-card.json") == card
    assert card.to_json()["fingerprint"].startswith("SHA256:")


def test_the_fingerprint_is_of_both_keys(card: PublicCard) -> None:
    assert replace(card, name="south").fingerprint() == card.fingerprint()
    assert replace(card, verify_key="cd" * 32).fingerprint() != card.fingerprint()
    assert replace(card, node_key=node_key()).fingerprint() != card.fingerprint()
    assert fingerprint_of(card.verify_key) != fingerprint_of("cd" * 32)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../north"),
        ("name", ""),
        ("node_key", "ssh-ed25519 AAAA"),
        ("node_key", "no key"),
        ("node_key", node_key(ec.SECP256R1())),
        ("node_key", f"{node_key()} root@host"),
        ("verify_key", "ab"),
        ("verify_key", "zz" * 32),
    ],
)
def test_what_is_no_name_and_no_key_is_refused(card: PublicCard, field: str, value: str) -> None:
    with pytest.raises(InputError):
        replace(card, **{field: value})


def test_a_card_that_was_changed_on_its_way_is_refused(card: PublicCard) -> None:
    with pytest.raises(InputError, match="of other keys"):
        PublicCard.from_json(card.to_json() | {"verify_key": "cd" * 32})
    wrong: list[Any] = [{}, [], None, "x"]
    for body in wrong:
        with pytest.raises(InputError, match="no public card"):
            PublicCard.from_json(body)
