"""Who is who: which node speaks for which site, by what the sites sign, and how each stands to the run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medgan_core.config import Study
from medgan_core.data.source import Card
from medgan_core.errors import IntegrityError, UpdateError
from medgan_core.messages import Receipt
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.sum_keys import signed_by
from medgan_core.proposals import Proposal, Standing


@dataclass
class Roster:
    """The sites of one run. `keys` are the enrolled Ed25519 public keys by name.

    `facts` are the public facts that all sites must share: those of the first approval, or of an earlier
    part of the run.
    """

    study: Study
    proposal: Proposal
    keys: Mapping[str, bytes]
    facts: Card | None = None
    nodes: dict[int, str] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    plan: PrivacyPlan | None = None

    def __post_init__(self) -> None:
        self._digest = self.proposal.digest()
        if self.facts is not None:
            self.plan = PrivacyPlan.of(self.study, self.facts.unit)

    @property
    def approved(self) -> tuple[str, ...]:
        """The sites that approved, in the order of their names."""
        return tuple(sorted(name for name, standing in self.standings.items() if standing.approved))

    @property
    def refused(self) -> tuple[str, ...]:
        """The sites that said no."""
        return tuple(sorted(name for name, s in self.standings.items() if s.answer == "refused"))

    def name(self, node: int) -> str:
        """The site of a node, or a name for the node where it has not signed anything yet."""
        return self.nodes.get(node, f"node {node}")

    def stands(self, node: int) -> bool:
        """Whether the site of this node has approved."""
        return node in self.nodes and self.nodes[node] in self.approved

    def hear(self, node: int, standing: Standing) -> None:
        """Take a site's answer to the proposal.

        Raises UpdateError, and takes nothing, where it is not signed by that site, is about another proposal,
        or approves what is not the study: another privacy plan, or data that do not fit those of the others.
        """
        where = self.know(node, standing)
        if standing.proposal != self._digest:
            raise UpdateError(f"{where}: answers another proposal")
        if standing.approved:
            self._check_facts(where, standing)
        self.standings[standing.site] = standing

    def know(self, node: int, standing: Standing) -> str:
        """Take from a standing which site the node speaks for; how to name it in an error.

        UpdateError where it is not signed by a site of this run.
        """
        where = f"standing of {standing.site}"
        key = self.keys.get(standing.site)
        if key is None or standing.site not in self.proposal.sites:
            raise UpdateError(f"{where}: no site of this run")
        if not signed_by(key, _bytes(standing.signature), standing.message()):
            raise UpdateError(f"{where}: not signed with its enrolled key")
        self.nodes[node] = standing.site
        return where

    def check_receipt(self, node: int, receipt: Receipt) -> None:
        """Refuse a receipt that is not signed by its site's enrolled key, with UpdateError."""
        where = f"update of {receipt.site} in round {receipt.round}"
        key = self.keys.get(receipt.site)
        if key is None:
            raise UpdateError(f"{where}: no site of this run")
        if not receipt.signature:
            raise UpdateError(f"{where}: its receipt is not signed")
        if not signed_by(key, _bytes(receipt.signature), receipt.message()):
            raise UpdateError(f"{where}: its receipt is not signed with its enrolled key")
        self.nodes[node] = receipt.site

    def _check_facts(self, where: str, standing: Standing) -> None:
        card = read_card(where, standing.card)
        asked = self.study.data
        if card.image_shape != asked.image_shape:
            raise UpdateError(f"{where}: images of {card.image_shape}, the study has {asked.image_shape}")
        if card.channels != asked.channel_names:
            raise UpdateError(f"{where}: channels {card.channels}, the study has {asked.channel_names}")
        if asked.classes and card.classes != asked.classes:
            raise UpdateError(f"{where}: classes {card.classes}, the study has {asked.classes}")
        first = self.facts or card
        for name in ("unit", "classes", "image_shape"):
            if getattr(card, name) != getattr(first, name):
                raise UpdateError(
                    f"{where}: its {name} is {getattr(card, name)}, that of the others {getattr(first, name)}"
                )
        plan = self.plan or PrivacyPlan.of(self.study, card.unit)
        if standing.plan != plan.digest():
            raise UpdateError(f"{where}: it made another privacy plan of the study; install the same version")
        self.facts, self.plan = first, plan


def read_card(where: str, body: Mapping[str, object]) -> Card:
    """Public facts as they travel. UpdateError where they are none."""
    try:
        told: dict[str, Any] = {"channels": (), **body}
        lists = {name: tuple(told[name]) for name in ("classes", "image_shape", "channels")}
        card = Card(**(told | lists))
    except (KeyError, TypeError) as error:
        raise UpdateError(f"{where}: its card cannot be read") from error
    texts = (card.name, card.modality, card.source, card.licence, *card.classes, *card.channels)
    numbers = (*card.image_shape, card.public)
    if (
        not all(isinstance(text, str) for text in texts)
        or [type(number) for number in numbers] != [int, int, int, bool]
        or card.unit not in ("patient", "image")
    ):
        raise UpdateError(f"{where}: its card cannot be read")
    return card


def common_card(study: Study, cards: Mapping[str, Card]) -> Card:
    """The public facts of all sites' data together, under the study's name.

    Raises IntegrityError where there is none.
    """
    if not cards:
        raise IntegrityError("no site's card is known: resume the run while its sites are there")
    ordered = [cards[name] for name in sorted(cards)]

    def joined(name: str) -> str:
        return ", ".join(dict.fromkeys(value for card in ordered if (value := getattr(card, name))))

    first = ordered[0]
    return Card(
        name=study.name,
        classes=first.classes,
        image_shape=first.image_shape,
        modality=joined("modality"),
        unit=first.unit,
        public=all(card.public for card in ordered),
        source=joined("source"),
        licence=joined("licence"),
        channels=first.channels,
    )


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
