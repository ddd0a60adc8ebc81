"""A secure sum in one process: honest sites, a server that relays, drop-outs wherever a test wants them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from medgan_core.messages import Stage
from medgan_core.privacy import secure_sum, sum_keys
from medgan_core.privacy.secure_sum import Party
from medgan_core.privacy.sum_keys import Words
from medgan_core.privacy.sum_rules import SumRules
from medgan_core.privacy.sum_server import Revealed, unmasked
from medgan_core.privacy.sum_session import Cohort, Session


@cache
def signing_key(name: str) -> bytes:
    """The long-term private key of a site."""
    return sum_keys.new_secret()


def names(count: int) -> tuple[str, ...]:
    return tuple(f"site-{number}" for number in range(1, count + 1))


def cohort(count: int) -> Cohort:
    return Cohort({name: sum_keys.verify_key_of(signing_key(name)) for name in names(count)})


def session(
    count: int = 4, drop: int | None = 1, collude: int = 1, *, attempt: int = 0, nonce: str = "n"
) -> Session:
    rules = SumRules.of(count, collude, drop)
    return Session("run", 0, "query", attempt, nonce, cohort(count), rules)


def vectors(count: int, size: int = 5, seed: int = 0) -> dict[str, Words]:
    random = np.random.default_rng(seed)
    drawn = random.integers(0, 2**64, (count, size), dtype=np.uint64)
    return dict(zip(names(count), drawn, strict=True))


Lost = Mapping[Stage, Sequence[str]]
"""Who is lost before it answers in a stage."""


@dataclass
class Relay:
    """An honest server and its sites; after `run(stage)` all stages up to this one are done."""

    session: Session
    vectors: Mapping[str, Words]
    lost: Lost = field(default_factory=dict)
    parties: dict[str, Party] = field(default_factory=dict)
    advertised: dict[str, bytes] = field(default_factory=dict)
    sealed: dict[str, dict[str, bytes]] = field(default_factory=dict)
    masked: dict[str, Words] = field(default_factory=dict)
    signatures: dict[str, bytes] = field(default_factory=dict)
    revealed: dict[str, Revealed] = field(default_factory=dict)

    def run(self, until: Stage = Stage.REVEAL) -> "Relay":
        for stage in Stage:
            for name in self.lost.get(stage, ()):
                self.parties.pop(name, None)
            getattr(self, f"_{stage}")(self.lost.get(stage, ()))
            if stage is until:
                break
        return self

    def total(self) -> Words:
        mask_keys = {name: message[32:64] for name, message in self.advertised.items()}
        return unmasked(self.session, mask_keys, self.sealed, self.masked, self.revealed)

    def _advertise(self, lost: Sequence[str]) -> None:
        for name in self.session.cohort.names:
            if name not in lost:
                self.parties[name], self.advertised[name] = secure_sum.advertise(
                    self.session, name, signing_key(name)
                )

    def _share(self, lost: Sequence[str]) -> None:
        for name, party in self.parties.items():
            self.parties[name], self.sealed[name] = secure_sum.share(party, self.advertised)

    def _mask(self, lost: Sequence[str]) -> None:
        for name, party in self.parties.items():
            received = secure_sum.receive(party, self.sealed)
            self.parties[name], self.masked[name] = secure_sum.mask(received, self.vectors[name])

    def _confirm(self, lost: Sequence[str]) -> None:
        for name, party in self.parties.items():
            self.parties[name], self.signatures[name] = secure_sum.confirm(
                party, list(self.masked), signing_key(name)
            )

    def _reveal(self, lost: Sequence[str]) -> None:
        for name, party in self.parties.items():
            self.parties[name], seeds, keys = secure_sum.reveal(party, self.signatures)
            self.revealed[name] = Revealed(seeds, keys)


def relay(
    count: int = 4, drop: int | None = 1, until: Stage = Stage.REVEAL, lost: Lost | None = None, size: int = 5
) -> Relay:
    """A relay that has run up to a stage."""
    return Relay(session(count, drop), vectors(count, size), lost or {}).run(until)
