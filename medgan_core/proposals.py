"""What travels before the first round and after the last: a study to approve, a site's yes or no, the end.

A site decides by its own policy and, unless that says otherwise, by a person. Nothing in a `Standing` depends
on patients, but for the yes or no itself. Knows no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any, Self

NOT_APPROVED = "not approved"
"""All that a coordinator learns of a no that depends on a site's data, budget or people."""
NOT_NOW = "not now"
"""How a reason begins that passes by itself: working hours, or another study's turn. Ask again later."""


@dataclass(frozen=True)
class Proposal:
    """What a coordinator asks sites to approve.

    `study` is the resolved study as a nested mapping (`Study.to_dict`); `sites` maps the names of all sites
    of the run to their Ed25519 public keys in hex: under secure sums an approval binds them. `witnesses` are
    the newest heads that the coordinator knows of the sites' ledgers ("ledger", "sequence", "head"): a site
    whose ledger is older must not go on.
    """

    run: str
    study: Mapping[str, Any]
    sites: Mapping[str, str]
    witnesses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of what is approved: run, resolved study and sites; not of the witnesses."""
        return sha256(json.dumps([self.run, self.study, self.sites], sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON; the inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        sites = {str(name): str(key) for name, key in body["sites"].items()}
        return cls(str(body["run"]), dict(body["study"]), sites, dict(body["witnesses"]))


@dataclass(frozen=True)
class Standing:
    """How a site stands to a proposal, named by its digest.

    `answer` is "approved", "waiting" (for a person, or for its turn), "refused", or "closed" in answer to a
    farewell; `reason` as much as a coordinator may know: a rule about public facts, else "not approved".
    `plan` is the digest of the privacy plan that the site made of the study, `card` the public facts of its
    data (`medgan_core.data.source.Card`): both are empty unless approved. `signature` is the site's Ed25519 signature of `message`, in hex.
    """

    site: str
    proposal: str
    answer: str
    reason: str = ""
    plan: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)
    signature: str = ""

    @property
    def approved(self) -> bool:
        """Whether the site will answer the run's rounds."""
        return self.answer == "approved"

    def message(self) -> bytes:
        """What is signed: everything but the signature."""
        unsigned = replace(self, signature="").to_json()
        return b"medgan standing\n" + json.dumps(unsigned, sort_keys=True).encode()

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON; the inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        texts = {name: str(value) for name, value in body.items() if name != "card"}
        return cls(card=dict(body["card"]), **texts)


@dataclass(frozen=True)
class Farewell:
    """A run that ended, "finished" or "stopped": its sites free what they still hold for it."""

    run: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON; the inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(str(body["run"]), str(body["reason"]))
