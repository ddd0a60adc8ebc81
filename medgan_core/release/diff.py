"""What differs between two releases, for whoever decides whether the new one replaces the old one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from medgan_core.codec import flatten
from medgan_core.messages import Arrays
from medgan_core.release.bundle import Release
from medgan_core.release.card import ReleaseCard, plain

_WIDEST = 300
_PROMISES = (
    "privacy",
    "unit",
    "neighbours",
    "epsilon",
    "local_epsilon",
    "delta",
    "accountant",
    "trust_model",
    "expires",
    "contact",
    "licence",
    "intended_use",
    "forbidden_use",
    "not_protected",
    "verify_keys",
)


@dataclass(frozen=True)
class Difference:
    """One thing that differs: its part, its name, and its values in plain JSON, None where it is missing.

    Parts are study, data, privacy, plan, sites, metrics and weights, in this order.
    """

    part: str
    name: str
    first: Any
    second: Any


def differences(first: Release, second: Release) -> tuple[Difference, ...]:
    """All differences; of the weights how far they are from each other, relative to the first."""
    pairs = zip(_facts(first).items(), _facts(second).values(), strict=True)
    told = [Difference(part, *found) for (part, a), b in pairs for found in _differing(a, b)]
    return (*told, *_distance(first.weights, second.weights))


def to_json(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """Plain JSON, an object for each."""
    return [asdict(difference) for difference in found]


def table(found: Sequence[Difference], first: str, second: str) -> Table:
    """A table for a person; the columns have the names of the two."""
    made = Table("part", "what", first, second)
    for difference in found:
        cells = (difference.part, difference.name, _cell(difference.first), _cell(difference.second))
        made.add_row(*(cell.replace("[", "\\[") for cell in cells))
    return made


def _facts(release: Release) -> dict[str, dict[str, Any]]:
    card = release.card
    return {
        "study": flatten(release.study.to_dict()),
        "data": card.data.model_dump(mode="json") | {"proportions": list(card.proportions)},
        "privacy": card.model_dump(mode="json", include=set(_PROMISES)),
        "plan": plain(asdict(card.plan)),
        "sites": _by_site(card),
        "metrics": dict(_flat(card.metrics)),
    }


def _by_site(card: ReleaseCard) -> dict[str, Any]:
    return {
        f"{site.site}.{name}": value
        for site in card.sites
        for name, value in site.model_dump(mode="json").items()
        if name != "site"
    }


def _flat(body: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys((*first, *second)):
        if first.get(name) != second.get(name):
            yield name, first.get(name), second.get(name)


def _distance(first: Arrays, second: Arrays) -> Iterator[Difference]:
    """Tensors of other names or shapes; else ‖a - b‖ / ‖a‖ over all tensors, and the largest single step."""
    shapes = [{name: list(array.shape) for name, array in arrays.items()} for arrays in (first, second)]
    other = list(_differing(*shapes))
    yield from (Difference("weights", *found) for found in other)
    if other:
        return
    a, b = (
        np.concatenate([arrays[n].ravel().astype(np.float64) for n in sorted(first)])
        for arrays in (first, second)
    )
    if np.array_equal(a, b):
        return
    steps = np.abs(a - b)
    relative = float(np.linalg.norm(steps) / max(np.linalg.norm(a), np.finfo(np.float64).tiny))
    yield Difference("weights", "relative distance", 0.0, relative)
    yield Difference("weights", "largest difference of a weight", 0.0, float(steps.max()))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    told = f"{value:.6g}" if isinstance(value, float) else str(value)
    return told if len(told) <= _WIDEST else f"{told[:_WIDEST]}…"
