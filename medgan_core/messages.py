"""What travels between a coordinator and its sites. Knows numpy alone, so that a thin client loads no torch.

A round is one `Request` to every site and one `Update` from each. Arrays travel in named groups
("generator", "discriminator", "statistics", …), each a mapping from tensor name to array.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Groups = Mapping[str, Arrays]


# Prefix of the tensors in "statistics" that hold the classes' shares [classes] at the site named after it.
PROPORTIONS = "proportions."


class Phase(StrEnum):
    """The kinds of round of a run, in their order."""

    ONE_SHOT = "one_shot"
    TRAIN = "train"
    EVALUATE = "evaluate"


@dataclass(frozen=True)
class Event:
    """One use of a mechanism on an account: `steps` Gaussian queries of sensitivity 1 on Poisson samples.

    `noise_multiplier` is σ in units of the sensitivity; `sampling_rate` q in (0, 1], 1 for a query of all
    patients. A noise multiplier of 0 is the infinite event of a run without privacy.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int

    @property
    def infinite(self) -> bool:
        """Whether the event protects nobody."""
        return self.noise_multiplier == 0


AccountName = Literal["training", "held_out"]

METRICS: Mapping[Phase, frozenset[str]] = {
    Phase.ONE_SHOT: frozenset(),
    Phase.TRAIN: frozenset({"generator_loss", "discriminator_accuracy_on_fakes", "discriminator_steps"}),
    Phase.EVALUATE: frozenset(),
}
"""The metrics that leave a site in each phase: they come from fakes and public facts alone."""


@dataclass(frozen=True)
class Receipt:
    """The proof that a site charged its ledger before it touched data.

    `request_digest` binds plan and incoming state; `head` is the hash of the ledger's chain after the charge
    and `sequence` its length; `spent` is ε of the whole account at `delta`, earlier runs included (infinity
    as the string "inf" in JSON); `signature` is empty until a site has a key.
    """

    site: str
    ledger: str
    run: str
    round: int
    phase: Phase
    request_digest: str
    account: AccountName
    event: Event
    spent: float
    delta: float
    sequence: int
    head: str
    update_digest: str = ""
    signature: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON; the inverse of `from_json`."""
        body = asdict(self)
        return body | {"phase": self.phase.value, "spent": float_to_json(self.spent)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Receipt":
        """Read what `to_json` wrote."""
        return cls(
            **{
                **body,
                "phase": Phase(body["phase"]),
                "event": Event(**body["event"]),
                "spent": float(body["spent"]),
            }
        )


@dataclass(frozen=True, eq=False)
class Request:
    """What a coordinator asks of every site in one round. `plan` is the digest of the privacy plan."""

    run: str
    round: int
    phase: Phase
    plan: str
    groups: Groups = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of plan and incoming state: the key under which a site replays its answer."""
        return digest_groups(self.groups, json.dumps([self.run, self.round, self.phase, self.plan]))


@dataclass(frozen=True, eq=False)
class Update:
    """What a site sends back: arrays in groups, the few metrics that may leave, and the receipt."""

    site: str
    round: int
    phase: Phase
    groups: Groups
    metrics: Mapping[str, float]
    receipt: Receipt

    def digest(self) -> str:
        """SHA-256 of all that leaves, the receipt excepted."""
        head = [self.site, self.round, self.phase, dict(self.metrics)]
        return digest_groups(self.groups, json.dumps(head, sort_keys=True))

    def sealed(self, receipt: Receipt) -> "Update":
        """The same update with this receipt."""
        return replace(self, receipt=receipt)


def digest_groups(groups: Groups, head: str = "") -> str:
    """SHA-256 over names, dtypes, shapes and bytes of arrays, in the order of their names.

    A group without arrays counts as absent.
    """
    digest = sha256(head.encode())
    for group in sorted(groups):
        for name in sorted(groups[group]):
            array = groups[group][name]
            described = json.dumps([group, name, array.dtype.str, array.shape])
            digest.update(f"\n{described}\n".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def float_to_json(value: float) -> float | str:
    """JSON has no infinity: write it as "inf", which `float` reads back."""
    return value if np.isfinite(value) else str(value)
