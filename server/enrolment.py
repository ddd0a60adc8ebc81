"""Which hospitals belong to a coordinator: their public cards, one file each.

The fingerprint on a card is compared by two people out of band before it is enrolled. Registering a node's
key with Flower is the business of `medgan-server up`, which follows these files.
"""

from pathlib import Path
from typing import Any

from medgan_core.errors import InputError
from medgan_core.public_card import PublicCard
from medgan_core.record import read_json, write_atomically, write_json
from server.folder import CoordinatorFolder


def enrol(folder: CoordinatorFolder, card: Path, name: str = "") -> PublicCard:
    """Keep a hospital's public card under its name.

    Raises InputError for a card or a name that cannot be, a name that is taken by another card, or a key
    that another site has.
    """
    told = PublicCard.read(card)
    if name and name != told.name:
        # A site signs as whom it calls itself, so another name here would have all its answers refused.
        raise InputError(f"--name {name}: the card is of {told.name}; a site is enrolled under its own name")
    for other in enrolled(folder).values():
        if other.name == told.name and other != told:
            raise InputError(
                f"{told.name} is enrolled with {other.fingerprint()}: if its keys were changed on purpose, "
                f"medgan-server revoke {told.name} first"
            )
        if other.name != told.name and {other.node_key, other.verify_key} & {told.node_key, told.verify_key}:
            raise InputError(f"{card.name}: one of its keys is that of {other.name}; each site has its own")
    told.write(folder.sites / f"{told.name}.json")
    return told


def revoke(folder: CoordinatorFolder, name: str) -> PublicCard:
    """Forget a hospital; its node is refused from the next moment on. InputError where there is none."""
    known = enrolled(folder)
    if name not in known:
        raise InputError(f"NAME {name}: not enrolled; enrolled are {', '.join(known) or 'none'}")
    (folder.sites / f"{name}.json").unlink()
    return known[name]


def enrolled(folder: CoordinatorFolder) -> dict[str, PublicCard]:
    """The cards of all enrolled hospitals by name, in the order of the names."""
    return {path.stem: PublicCard.read(path) for path in sorted(folder.sites.glob("*.json"))}


class Registered:
    """The nodes that Flower knows by our doing: name → key and Flower's number, beside its database."""

    def __init__(self, folder: CoordinatorFolder) -> None:
        self._path = folder.flower / "registered.json"
        self._keys = folder.flower / "node-keys"

    def read(self) -> dict[str, dict[str, Any]]:
        """What was registered and not taken back."""
        return dict(read_json(self._path)) if self._path.is_file() else {}

    def differences(self, cards: dict[str, PublicCard]) -> tuple[list[tuple[str, str]], list[PublicCard]]:
        """(name, node) of what is to be taken back, and cards to be registered, in this order."""
        known = self.read()
        keys = {name: card.node_key for name, card in cards.items()}
        gone = [(name, str(entry["node"])) for name, entry in known.items() if entry["key"] != keys.get(name)]
        stale = {name for name, _ in gone}
        return gone, [card for name, card in cards.items() if name not in known or name in stale]

    def key_file(self, card: PublicCard) -> Path:
        """The card's node key as a file for Flower's command."""
        self._keys.mkdir(exist_ok=True)
        path = self._keys / f"{card.name}.pub"
        write_atomically(path, f"{card.node_key.strip()}\n".encode())
        return path

    def add(self, card: PublicCard, node: str) -> None:
        """Flower knows this card's key as this node."""
        write_json(self._path, self.read() | {card.name: {"key": card.node_key, "node": node}})

    def drop(self, name: str) -> None:
        """Flower knows it no more."""
        write_json(self._path, {other: entry for other, entry in self.read().items() if other != name})
