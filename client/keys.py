"""A hospital's two key pairs: the node's, by which the coordinator knows its machine, and the one that signs.

Private keys are made here, are readable by their owner alone, are never overwritten and never leave.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from client.folder import SiteFolder, replace_private, write_private
from medgan_core.errors import InputError, IntegrityError
from medgan_core.privacy import sum_keys
from medgan_core.public_card import PublicCard
from medgan_core.record import write_atomically


def make_keys(folder: SiteFolder, name: str) -> PublicCard:
    """Both key pairs and the public card. InputError where there is a key already: none is overwritten."""
    for path in (folder.node_key, folder.signing_key):
        if path.exists():
            raise InputError(f"{path.name} exists already: this site has its keys; rotate-key makes new ones")
    write_private(folder.node_key, _public_after(folder, _new_node_key()))
    write_private(folder.signing_key, sum_keys.new_secret())
    return write_card(folder, name)


def rotate_keys(folder: SiteFolder, name: str) -> PublicCard:
    """New key pairs in place of the old ones, which are gone; the card is new too.

    Until the coordinator has enrolled the new card it knows this site no more.
    """
    replace_private(folder.signing_key, sum_keys.new_secret())
    replace_private(folder.node_key, _public_after(folder, _new_node_key()))
    return write_card(folder, name)


def write_card(folder: SiteFolder, name: str) -> PublicCard:
    """The public card of the keys that are here, written beside them."""
    card = PublicCard(name, _public_line(folder.node_key), verify_key(folder))
    card.write(folder.public_card)
    return card


def signing_key(folder: SiteFolder) -> bytes:
    """The private key that signs, 32 bytes. IntegrityError where it is missing or damaged."""
    key = _read(folder.signing_key)
    if len(key) != sum_keys.KEY_BYTES:
        raise IntegrityError(
            f"{folder.signing_key.name} is damaged: run rotate-key, and have the new card enrolled"
        )
    return key


def verify_key(folder: SiteFolder) -> str:
    """Its public half in hex: what the coordinator enrols."""
    return sum_keys.verify_key_of(signing_key(folder)).hex()


def check_card(folder: SiteFolder, name: str) -> PublicCard:
    """The card, where it is that of the keys. IntegrityError where it is not."""
    card = PublicCard.read(folder.public_card)
    if card != PublicCard(name, _public_line(folder.node_key), verify_key(folder)):
        raise IntegrityError(
            f"{folder.public_card.name} is not that of this site's name and keys: run rotate-key, "
            "and have the new card enrolled"
        )
    return card


def destroy_keys(folder: SiteFolder) -> None:
    """Overwrite and delete both private keys; copies in backups of the disk are not reached."""
    for path in (folder.node_key, folder.signing_key):
        if path.exists():
            with path.open("r+b") as file:
                file.write(bytes(path.stat().st_size))
                file.flush()
            path.unlink()


def _new_node_key() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _public_after(folder: SiteFolder, private: bytes) -> bytes:
    """The private key, once its public half is on disk: a crash leaves no key without a card to make."""
    write_atomically(folder.node_public_key, f"{_line(private)}\n".encode())
    return private


def _public_line(path: Path) -> str:
    try:
        return _line(_read(path))
    except ValueError:
        raise IntegrityError(
            f"{path.name} is no OpenSSH key: run rotate-key, and have the card enrolled"
        ) from None


def _line(private: bytes) -> str:
    key = load_ssh_private_key(private, None)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntegrityError(
            f"{path.name}: {error.strerror}; run init, or as the user of this site"
        ) from None
