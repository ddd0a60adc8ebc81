"""What all parties of one secure sum agree on before it begins: who takes part, on what, by which rules."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Self

from medgan_core.errors import RefusedError
from medgan_core.privacy.sum_rules import FEWEST_SITES, SumRules


@dataclass(frozen=True)
class Cohort:
    """The long-term Ed25519 public keys of sites by name: 32 bytes each, pinned by a person at every site."""

    keys: Mapping[str, bytes]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The sites in the order in which they are numbered, from 1."""
        return tuple(sorted(self.keys))

    def number(self, name: str) -> int:
        """A site's number in masks and shares."""
        return self.names.index(name) + 1

    def digest(self) -> str:
        """SHA-256 over names and keys."""
        listed = [[name, self.keys[name].hex()] for name in self.names]
        return sha256(json.dumps(listed).encode()).hexdigest()

    def to_json(self) -> dict[str, str]:
        """Names and keys in hex; the inverse of `from_json`."""
        return {name: self.keys[name].hex() for name in self.names}

    @classmethod
    def from_json(cls, body: Mapping[str, str]) -> Self:
        """Read what `to_json` wrote. Raises ValueError for what is no hex."""
        return cls({str(name): bytes.fromhex(key) for name, key in body.items()})

    def check(self, pinned: "Cohort", own: str, rules: SumRules) -> None:
        """Refuse a cohort that is not of this site's own pinned keys, or too small for the rules."""
        for name in self.names:
            if name not in pinned.keys:
                raise RefusedError(f"secure sum: site {name} is not among the sites pinned here")
            if self.keys[name] != pinned.keys[name]:
                raise RefusedError(f"secure sum: the key of site {name} is not the one pinned here")
        if own not in self.keys:
            raise RefusedError(f"secure sum: site {own} is not in the cohort")
        least = max(FEWEST_SITES, rules.survivors)
        if len(self.keys) < least or len(set(self.keys.values())) < len(self.keys):
            raise RefusedError(
                f"secure sum: a cohort of {len(self.keys)} sites, needed are {least} with different keys"
            )


@dataclass(frozen=True)
class Session:
    """One attempt at one sum. `query` is the digest of what is summed, `nonce` is new for every attempt."""

    run: str
    round: int
    query: str
    attempt: int
    nonce: str
    cohort: Cohort
    rules: SumRules
    id: bytes = field(init=False)

    def __post_init__(self) -> None:
        rules = [self.rules.sites, self.rules.drop, self.rules.collude, self.rules.threshold]
        agreed = [self.run, self.round, self.query, self.attempt, self.nonce, self.cohort.digest(), rules]
        object.__setattr__(self, "id", sha256(f"medgan secure sum\n{json.dumps(agreed)}".encode()).digest())

    def purpose(self, what: str, *sites: str) -> bytes:
        """A context for keys, ciphertexts and signatures that is theirs alone: use, session, sites."""
        return json.dumps([what, self.id.hex(), *sites]).encode()

    def check_list(self, stage: str, names: Sequence[str], among: Iterable[str], least: int) -> None:
        """Refuse a list of sites that is too short, has strangers in it, or the same site twice."""
        known = set(among)
        if strangers := sorted(set(names) - known):
            raise RefusedError(f"secure sum, {stage}: {', '.join(strangers)} did not come this far")
        if len(set(names)) < len(names):
            raise RefusedError(f"secure sum, {stage}: a site is listed twice")
        if len(names) < least:
            raise RefusedError(f"secure sum, {stage}: {len(names)} sites are left, needed are {least}")


def chained(digest: bytes, messages: Mapping[str, bytes]) -> bytes:
    """SHA-256 over what was agreed before and what everybody was sent now."""
    listed = json.dumps([digest.hex(), {name: messages[name].hex() for name in sorted(messages)}])
    return sha256(listed.encode()).digest()
