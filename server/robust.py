"""Rules that a few wild sites cannot carry away. They look at single updates, each of one voice.

Coordinate-wise median and trimmed mean: Yin et al. 2018, https://arxiv.org/abs/1803.01498; Krum: Blanchard et
al. 2017, "Machine Learning with Adversaries", NeurIPS. Memory holds as many numbers of each site as a part of
a tensor has, and the tensors stay where they are, in memory or on disk.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medgan_core.dtypes import is_floating, widened
from medgan_core.errors import RoundError
from medgan_core.messages import Array, Arrays, Groups, Update
from medgan_core.sections import AggregationConfig
from server.aggregate import average
from server.parts import each_part, part_of
from server.spill import empty_like, read_part

Middle = Callable[[Array], Array]


def combined(
    asked: AggregationConfig, updates: Sequence[Update], weights: Mapping[str, float], incoming: Groups
) -> tuple[dict[str, dict[str, Array]], dict[str, str]]:
    """The groups of all updates as one, by the study's rule, and what may be told of it.

    `weights` are the public ones of all sites, `incoming` what was sent to them. Raises RoundError where
    fewer sites answered than the rule can do with, which the study's quorum prevents.
    """
    ordered = sorted(updates, key=lambda update: update.site)
    wild = asked.wild(len(weights))
    if asked.rule == "krum":
        chosen = krum(ordered, wild, incoming)
        return {name: copied(arrays) for name, arrays in chosen.groups.items()}, {"krum": chosen.site}
    groups = ordered[0].groups
    if asked.rule == "mean":
        return {name: average(ordered, weights, name) for name in groups}, {}
    cut = wild if asked.rule == "trimmed_mean" else (len(ordered) - 1) // 2
    return {name: trimmed([update.groups[name] for update in ordered], cut) for name in groups}, {}


def copied(arrays: Arrays) -> dict[str, Array]:
    """A group in memory, whole."""
    return {name: np.array(arrays[name]) for name in arrays}


def trimmed(tensors: Sequence[Arrays], cut: int) -> dict[str, Array]:
    """The mean of one group over sites, coordinate by coordinate, without the `cut` lowest and highest.

    With cut = (sites - 1) // 2 it is the median. Integers and booleans are the lower median of the sites, a
    value that one of them has: with the largest, a wild site could have them all count to the end.
    """
    sites = len(tensors)
    if sites <= 2 * cut:
        raise RoundError(f"{sites} updates, from which {2 * cut} are to be cut off: more sites must answer")
    found = empty_like(tensors[0])

    def work(name: str, start: int, stop: int) -> None:
        middle = found[name].reshape(-1)[start:stop]
        stacked = _stacked(tensors, name, start, middle)
        stacked.sort(axis=0)
        if is_floating(middle.dtype):
            middle[...] = stacked[cut : sites - cut].mean(axis=0, dtype=np.float64)
        else:
            middle[...] = stacked[(sites - 1) // 2]

    each_part(found, work, part_of(sites))
    return found


def krum(updates: Sequence[Update], wild: int, incoming: Groups) -> Update:
    """The update that is nearest to those around it: Krum with f = `wild`, over all groups together.

    Its score is the sum of squared distances to its K - f - 2 nearest others; the first by name has the
    lowest. `incoming` is what the sites started from: distances are reckoned from there in float64, and
    integers have none.
    """
    near = len(updates) - wild - 2
    if near < 1:
        raise RoundError(f"{len(updates)} updates, for Krum with {wild} wild sites: more must answer")
    distances = square_distances(updates, incoming)
    np.fill_diagonal(distances, np.inf)
    scores = np.sort(distances, axis=1)[:, :near].sum(axis=1)
    return updates[int(np.argmin(scores))]


def square_distances(updates: Sequence[Update], incoming: Groups) -> Array:
    """Squared Euclidean distances between all updates, float64 [K, K], over the floats of all groups."""
    products = np.zeros((len(updates), len(updates)))
    for group, arrays in incoming.items():
        tensors = [update.groups[group] for update in updates]
        floats = {name: like for name, like in arrays.items() if is_floating(like.dtype)}
        for name, like in floats.items():
            step, flat = part_of(len(updates)), like.reshape(-1)
            for start in range(0, flat.size, step):
                origin = flat[start : start + step]
                moved = _stacked(tensors, name, start, origin) - origin.astype(np.float64)
                products += moved @ moved.T
    squares = np.diag(products)
    return np.maximum(squares[:, None] + squares - 2 * products, 0)


def _stacked(tensors: Sequence[Arrays], name: str, start: int, like: Array) -> Array:
    """Numbers of one tensor from `start` on, as many as `like` has, of every site: [sites, n]."""
    part = np.empty_like(like)
    wide = widened(like.dtype) if is_floating(like.dtype) else like.dtype
    stacked = np.empty((len(tensors), like.size), wide)
    for row, arrays in zip(stacked, tensors, strict=True):
        read_part(arrays, name, start, part)
        row[...] = part
    return stacked
