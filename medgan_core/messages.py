"""What travels between a coordinator and its sites. Knows numpy and its dtypes alone, so that a thin client
loads no torch.

A round is one `Request` to every site and one `Update` from each. Arrays travel in named groups
("generator", "discriminator", "statistics", …), each a mapping from tensor name to array. A round under
secure sum is five requests, one for each `Stage`; the answers to four of them are `StageReply`s without data.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medgan_core.dtypes import raw_bytes, spelled

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Groups = Mapping[str, Arrays]


# Prefix of the tensors in "statistics" that hold the classes' shares [classes] at the site named after it.
PROPORTIONS = "proportions."


class Phase(StrEnum):
    """The kinds of round of a run, in their order."""

    ONE_SHOT = "one_shot"
    TRAIN = "train"
    GATE = "gate"
    EVALUATE = "evaluate"
    ATTACK = "attack"
    CONTROL = "control"


def last_phases(gate: bool, attacked: bool) -> tuple[Phase, ...]:
    """Those after the adversarial rounds, a round each: gate, evaluation, attack on members, its control."""
    return (Phase.GATE,) * gate + (Phase.EVALUATE,) + (Phase.ATTACK, Phase.CONTROL) * attacked


def phase_at(number: int, rounds: int, gate: bool, first: int = 0, attacked: bool = False) -> Phase | None:
    """The phase of a round: 0 the one-shot query, the adversarial rounds, then `last_phases`; else None.

    `first` is 1 for a run that no query begins.
    """
    if number < first:
        return None
    if number == 0:
        return Phase.ONE_SHOT
    if 0 < number <= rounds:
        return Phase.TRAIN
    last = last_phases(gate, attacked)
    return last[number - rounds - 1] if rounds < number <= rounds + len(last) else None


class Stage(StrEnum):
    """The stages of a secure sum, in their order; data are touched in `MASK` alone."""

    ADVERTISE = "advertise"
    SHARE = "share"
    MASK = "mask"
    CONFIRM = "confirm"
    REVEAL = "reveal"


@dataclass(frozen=True)
class Event:
    """One use of a mechanism on an account: `steps` Gaussian queries of sensitivity 1 on Poisson samples.

    `noise_multiplier` is σ in units of the sensitivity; `sampling_rate` q in (0, 1], 1 for a query of all
    patients. A noise multiplier of 0 is the infinite event of a run without privacy.

    With `shares` n ≥ 1 the noise is the sum of n independent discrete Gaussians, each of standard deviation
    `share_deviation` on the integers, in each of `dimension` coordinates; σ is that of the sum. Patients join
    it with q too, each by a coin that its site alone knows.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    shares: int = 0
    dimension: int = 0
    share_deviation: float = 0.0

    @property
    def infinite(self) -> bool:
        """Whether the event protects nobody."""
        return self.noise_multiplier == 0

    @property
    def local(self) -> "Event":
        """The event without trust in anybody else's share: of the noise only the site's own is left."""
        if not self.shares:
            return self
        return replace(self, noise_multiplier=self.noise_multiplier / math.sqrt(self.shares), shares=1)

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON, without the fields that only sums of shares have where there are none."""
        body = asdict(self)
        return body if self.shares else {name: body[name] for name in _GAUSSIAN}


_GAUSSIAN = ("noise_multiplier", "sampling_rate", "steps")


AccountName = Literal["training", "held_out"]

METRICS: Mapping[Phase, frozenset[str]] = {
    Phase.ONE_SHOT: frozenset(),
    Phase.TRAIN: frozenset({"generator_loss", "discriminator_accuracy_on_fakes", "discriminator_steps"}),
    Phase.GATE: frozenset(),
    Phase.EVALUATE: frozenset(),
    Phase.ATTACK: frozenset(),
    Phase.CONTROL: frozenset(),
}
"""The metrics that leave a site in each phase: they come from fakes and public facts alone."""
_OF_FAKES = frozenset({"generator_loss", "discriminator_accuracy_on_fakes"})


def metrics_of(phase: Phase, free_fakes: bool) -> frozenset[str]:
    """Those of a study: where fakes are made of patients' images, figures of fakes are private too."""
    return METRICS[phase] if free_fakes else METRICS[phase] - _OF_FAKES


@dataclass(frozen=True)
class Receipt:
    """The proof that a site charged its ledger before it touched data.

    `request_digest` binds plan and incoming state; `head` is the hash of the ledger's chain after the charge
    and `sequence` its length; `spent` is ε of the whole account at `delta`, earlier runs included (infinity
    as the string "inf" in JSON); `signature` is the site's Ed25519 signature of
    `message` in hex, empty where a site has no key.

    Under secure sum `event` and `spent` hold if the sites that must not collude do not, `local_event` and
    `local_spent` whatever they do; `query` is the digest of what was summed, without the cohort, and `repeat`
    counts the charges of the same round before this one.
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
    local_event: Event | None = None
    local_spent: float | None = None
    query: str = ""
    repeat: int = 0

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON; the inverse of `from_json`."""
        body = asdict(self)
        body |= {
            "phase": self.phase.value,
            "event": self.event.to_json(),
            "spent": float_to_json(self.spent),
        }
        if self.local_event is None or self.local_spent is None:
            return {name: value for name, value in body.items() if name not in _SUMMED}
        local = {"event": self.local_event.to_json(), "spent": float_to_json(self.local_spent)}
        return body | {f"local_{name}": value for name, value in local.items()}

    def message(self) -> bytes:
        """What a site signs: everything but the signature."""
        unsigned = {name: value for name, value in self.to_json().items() if name != "signature"}
        return b"medgan receipt\n" + json.dumps(unsigned, sort_keys=True).encode()

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Receipt":
        """Read what `to_json` wrote. Raises KeyError, TypeError or ValueError for what it did not write."""
        read = {
            **body,
            "phase": Phase(body["phase"]),
            "event": Event(**body["event"]),
            "spent": float(body["spent"]),
        }
        if body.get("local_event") is not None:
            read["local_event"] = Event(**body["local_event"])
            read["local_spent"] = float(body["local_spent"])
        receipt = cls(**read)
        for part in (receipt, receipt.event, receipt.local_event):
            _check_types({} if part is None else vars(part))
        return receipt


_TYPES: tuple[tuple[tuple[str, ...], tuple[type, ...], str], ...] = (
    (("site", "ledger", "run", "request_digest", "account", "head"), (str,), "a text"),
    (("update_digest", "signature", "query"), (str,), "a text"),
    (("round", "sequence", "repeat", "steps", "shares", "dimension"), (int,), "a whole number"),
    (("delta", "noise_multiplier", "sampling_rate", "share_deviation"), (int, float), "a number"),
)


def _check_types(told: Mapping[str, Any]) -> None:
    """TypeError where a receipt or an event has another type in a field than JSON should have brought."""
    for names, types, expected in _TYPES:
        for name in told.keys() & set(names):
            if isinstance(told[name], bool) or not isinstance(told[name], types):
                raise TypeError(f"{name} = {told[name]!r}: expected {expected}")


_SUMMED = ("local_event", "local_spent", "query", "repeat")


@dataclass(frozen=True)
class SumStage:
    """Which stage of which secure sum a request is.

    `query` is the digest of what is summed (`Request.query`), `nonce` new for every attempt; `cohort` maps
    the names of the sites to their long-term public keys in hex. `survivors` are the sites whose masked
    vectors came, for the stage `CONFIRM`. What the server relays to all travels in the group "relayed".
    """

    stage: Stage
    attempt: int
    nonce: str
    query: str
    cohort: Mapping[str, str]
    survivors: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dict for JSON; the inverse of `from_json`."""
        return asdict(self) | {"stage": self.stage.value, "survivors": list(self.survivors)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "SumStage":
        """Read what `to_json` wrote."""
        return cls(
            Stage(body["stage"]),
            int(body["attempt"]),
            str(body["nonce"]),
            str(body["query"]),
            {str(name): str(key) for name, key in body["cohort"].items()},
            tuple(str(name) for name in body["survivors"]),
        )


DISCRIMINATORS = "discriminators"
"""The group of some rounds' discriminators; the number of the round begins the name of a tensor."""
RELAYED = "relayed"
"""The group of a request in which a server relays what the sites of a secure sum sent to each other."""


@dataclass(frozen=True, eq=False)
class Request:
    """What a coordinator asks of every site in one round. `plan` is the digest of the privacy plan."""

    run: str
    round: int
    phase: Phase
    plan: str
    groups: Groups = field(default_factory=dict)
    secure: SumStage | None = None

    def digest(self) -> str:
        """SHA-256 of plan, incoming state and, under secure sum, stage, cohort and all that is relayed.

        The key under which a site replays its answer. Reckoned once: a coordinator asks for every update.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        head = [self.run, self.round, self.phase, self.plan]
        staged = [] if self.secure is None else [self.secure.to_json()]
        return digest_groups(self.groups, json.dumps(head + staged, sort_keys=True))

    def query(self) -> str:
        """SHA-256 of plan and incoming state alone: what is asked, whoever takes part in a secure sum."""
        asked = {name: arrays for name, arrays in self.groups.items() if name != RELAYED}
        return replace(self, groups=asked, secure=None).digest()


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


@dataclass(frozen=True, eq=False)
class StageReply:
    """What a site sends in a stage of a secure sum that touches no data: messages by name, bytes [n]."""

    site: str
    round: int
    stage: Stage
    nonce: str
    messages: Arrays


def digest_groups(groups: Groups, head: str = "") -> str:
    """SHA-256 over names, dtypes, shapes and bytes of arrays, in the order of their names.

    A group without arrays counts as absent.
    """
    digest = sha256(head.encode())
    for group in sorted(groups):
        for name in sorted(groups[group]):
            array = groups[group][name]
            described = json.dumps([group, name, spelled(array.dtype), array.shape])
            digest.update(f"\n{described}\n".encode())
            digest.update(raw_bytes(array))
    return digest.hexdigest()


def float_to_json(value: float) -> float | str:
    """JSON has no infinity: write it as "inf", which `float` reads back."""
    return value if np.isfinite(value) else str(value)
