"""Which labels to draw: asked for by name, or shared out by public proportions."""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from medgan_core.errors import InputError

MOST_IMAGES = 100_000_000


def parse_labels(text: str) -> dict[str, int]:
    """Read `normal=300,pneumonia=700`. Raises InputError naming the part that cannot be read."""
    counts: dict[str, int] = {}
    for part in text.split(","):
        name, separator, number = (piece.strip() for piece in part.rpartition("="))
        if not separator or not name or not re.fullmatch(r"[0-9]{1,12}", number):
            raise InputError(f"--labels {part!r}: expected CLASS=COUNT, such as normal=300,pneumonia=700")
        if name in counts:
            raise InputError(f"--labels names {name!r} twice: give each class one count")
        counts[name] = int(number)
    return counts


def label_counts(
    wanted: int | Mapping[str, int], classes: Sequence[str], proportions: Sequence[float] = ()
) -> list[int]:
    """How many images of each class: counts by name, or a number shared out by proportions (equal if none).

    Raises InputError for an unknown class, a negative count, no image at all or more than 100,000,000.
    """
    if isinstance(wanted, Mapping):
        unknown = sorted(set(wanted) - set(classes))
        if unknown:
            raise InputError(f"unknown class {unknown[0]!r}: the release has {', '.join(classes)}")
        counts = [wanted.get(name, 0) for name in classes]
        if min(counts) < 0:
            raise InputError(f"a count of {min(counts)} images: expected 0 or more for each class")
        total = sum(counts)
    else:
        counts, total = [], wanted
    if not 0 < total <= MOST_IMAGES:
        raise InputError(f"{total} images: expected from 1 to {MOST_IMAGES:,} at a time")
    return counts or largest_remainder(total, proportions or [1.0] * len(classes))


def largest_remainder(total: int, proportions: Sequence[float]) -> list[int]:
    """Share `total` out in whole numbers that sum to it, each less than 1 from its exact share.

    `proportions` are ≥ 0 and finite, with a positive sum; ties go to the earlier one.
    """
    parts = [Fraction(part) for part in proportions]
    quotas = [total * part / sum(parts) for part in parts]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(parts)), key=lambda i: counts[i] - quotas[i])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


def label_array(counts: Sequence[int]) -> NDArray[np.int64]:
    """Labels [N] int64, class by class."""
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)
