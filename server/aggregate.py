"""Which updates are acceptable, and their average. Pure functions of arrays and public weights."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medgan_core.dtypes import is_floating, widened
from medgan_core.errors import RefusedError, UpdateError
from medgan_core.messages import Array, Arrays, Groups, Receipt, Request, Update, metrics_of
from server.parts import PART, each_part
from server.spill import empty_like, read_part

MOST_PATIENTS = 1e9
"""More than any site has, as a public bound of what a sum over its patients can be."""

if TYPE_CHECKING:  # the plan needs torch, and sums do not
    from medgan_core.privacy.plan import PrivacyPlan


def check_update(update: Update, request: Request, expected: Groups, *, free_fakes: bool = True) -> None:
    """Refuse an update that is not an answer to this request, by name.

    `expected` gives the groups that must come back, with the shape and dtype of each tensor; `free_fakes`
    is the study's, and says which metrics come along. Raises
    UpdateError for another round or plan, missing or extra tensors or metrics, another shape or dtype, NaN
    and infinity, in metrics too.
    """
    where = f"update of {update.site} in round {request.round}"
    receipt = update.receipt
    if (update.round, update.phase) != (request.round, request.phase):
        raise UpdateError(
            f"{where}: answers round {update.round} ({update.phase}), "
            f"expected round {request.round} ({request.phase})"
        )
    if (receipt.site, receipt.round, receipt.phase) != (update.site, request.round, request.phase):
        raise UpdateError(f"{where}: its receipt is of another site or round")
    if (receipt.run, receipt.request_digest) != (request.run, request.digest()):
        raise UpdateError(f"{where}: its receipt is for another request")
    if receipt.update_digest != update.digest():
        raise UpdateError(f"{where}: its content is not what its receipt sealed")
    metrics = metrics_of(request.phase, free_fakes) if request.secure is None else ()
    _check_names(where, "metric", set(update.metrics), set(metrics))
    for name, value in update.metrics.items():
        if not math.isfinite(value):
            raise UpdateError(f"{where}: metric {name} is {value}, expected a finite number")
    _check_names(where, "group", set(update.groups), set(expected))
    for group, arrays in expected.items():
        _check_names(where, f"tensor of {group}", set(update.groups[group]), set(arrays))
        for name, like in arrays.items():
            _check_array(f"{where}: {group}/{name}", update.groups[group][name], like)


def check_charge(update: Update, request: Request, plan: "PrivacyPlan") -> None:
    """Refuse an update whose receipt charged another event than the plan's, or another local one.

    And whatever else a release would refuse of it, when everybody has paid.
    """
    event, receipt = plan.event(request.phase), update.receipt
    local = event.local if event.shares else None
    query = request.query() if event.shares else ""
    where = f"update of {update.site} in round {request.round}"
    if (receipt.event, receipt.local_event, receipt.query) != (event, local, query):
        raise UpdateError(f"{where}: its receipt charged another event than the plan's")
    try:
        _check_receipt(receipt, plan)
    except RefusedError as error:
        raise UpdateError(f"{where}: {error}") from error


def charged(update: Update, request: Request, plan: "PrivacyPlan") -> Receipt | None:
    """The receipt of an update, where it is that of this request: its content has left the site.

    None too for a receipt that no release could have: it would void what all others paid for.
    """
    receipt = update.receipt
    asked = (update.site, request.run, request.round, request.phase, request.digest())
    given = (receipt.site, receipt.run, receipt.round, receipt.phase, receipt.request_digest)
    if given != asked:
        return None
    try:
        _check_receipt(receipt, plan)
    except RefusedError:
        return None
    return receipt


def _check_receipt(receipt: Receipt, plan: "PrivacyPlan") -> None:
    from medgan_core.release.spending import check_receipt  # which loads torch, as the plan has by now

    check_receipt(receipt, plan)


def check_norm(update: Update, incoming: Groups, bound: float) -> None:
    """Refuse an update that moved further than `bound` from what was sent, over all its floats together.

    In float64; integers have no length. 0 is no bound.
    """
    if not bound:
        return
    square = sum(
        _square_distance(update.groups[group][name], like)
        for group, arrays in incoming.items()
        for name, like in arrays.items()
        if is_floating(like.dtype)
    )
    if not math.sqrt(square) <= bound:
        raise UpdateError(
            f"update of {update.site} in round {update.round}: moved by {math.sqrt(square):.4g} from the "
            f"weights that were sent, aggregation.norm_bound is {bound:g}"
        )


def check_statistics(update: Update, deviation: float) -> None:
    """Refuse a noisy sum over patients that none could make, since each of them counts for 1 at most.

    `deviation` is that of the noise in each number; beyond 64 of them its probability is below e^-2000.
    """
    bound = MOST_PATIENTS + 64 * deviation
    for name, array in update.groups["statistics"].items():
        if not (largest := float(np.abs(array).max(initial=0))) <= bound:
            raise UpdateError(
                f"update of {update.site} in round {update.round}: statistics/{name} holds {largest:.4g}, "
                f"expected {bound:.4g} at most"
            )


def average(updates: Sequence[Update], weights: Mapping[str, float], group: str) -> dict[str, Array]:
    """The weighted mean of one group over sites, accumulated in float64 (McMahan et al. 2017, FedAvg).

    `weights` are public and renormalised over the sites that answered. Whatever the number of sites, memory
    holds the mean and a part of one tensor; the order of arrival changes no bit, since sums go by the order
    of names.

    Integers and booleans, such as BatchNorm's `num_batches_tracked`, are the largest of all sites: a mean of
    counts is no count, PyTorch would refuse its fraction, and where all sites counted the same steps the
    largest is what each of them has.
    """
    ordered = sorted(updates, key=lambda update: update.site)
    whole = sum(weights[update.site] for update in ordered)
    shares = [weights[update.site] / whole for update in ordered]
    tensors = [update.groups[group] for update in ordered]
    mean = empty_like(tensors[0])

    def work(name: str, start: int, stop: int) -> None:
        found = mean[name].reshape(-1)[start:stop]
        if is_floating(found.dtype):
            _mean_part(tensors, shares, name, start, found)
        else:
            _largest_part(tensors, name, start, found)

    each_part(mean, work)
    return mean


def _mean_part(
    tensors: Sequence[Arrays], shares: Sequence[float], name: str, start: int, found: Array
) -> None:
    part, product = np.empty_like(found), np.empty(found.shape, widened(found.dtype))
    wide, summed = np.empty(found.shape), np.zeros(found.shape)
    for arrays, share in zip(tensors, shares, strict=True):
        read_part(arrays, name, start, part)
        np.copyto(wide, np.multiply(part, share, out=product))
        summed += wide
    found[...] = summed


def _largest_part(tensors: Sequence[Arrays], name: str, start: int, found: Array) -> None:
    part = np.empty_like(found)
    read_part(tensors[0], name, start, found)
    for arrays in tensors[1:]:
        read_part(arrays, name, start, part)
        np.maximum(found, part, out=found)


def total(updates: Sequence[Update], group: str, name: str) -> Array:
    """The plain sum of one tensor over sites, in the order of their names."""
    first, *others = sorted(updates, key=lambda update: update.site)
    summed: Array = np.array(first.groups[group][name])
    for update in others:
        summed += update.groups[group][name]
    return summed


def _check_names(where: str, kind: str, found: set[str], expected: set[str]) -> None:
    if missing := sorted(expected - found):
        raise UpdateError(f"{where}: {kind} missing: {', '.join(missing)}")
    if extra := sorted(found - expected):
        raise UpdateError(f"{where}: {kind} not expected: {', '.join(extra)}")


def _check_array(where: str, array: Array, like: Array) -> None:
    if array.shape != like.shape:
        raise UpdateError(f"{where}: shape {array.shape}, expected {like.shape}")
    if array.dtype != like.dtype:
        raise UpdateError(f"{where}: dtype {array.dtype}, expected {like.dtype}")
    if not finite(array):
        raise UpdateError(f"{where}: holds NaN or infinity")


def finite(array: Array) -> bool:
    """Whether all numbers of an array are finite; memory holds a part of the answer."""
    return all(bool(np.isfinite(part).all()) for part in _parts(array))


def _square_distance(array: Array, like: Array) -> float:
    pairs = zip(_parts(array), _parts(like), strict=True)
    differences = (np.subtract(one, other, dtype=np.float64) for one, other in pairs)
    return sum(float(np.vdot(difference, difference)) for difference in differences)


def _parts(array: Array) -> Iterator[Array]:
    flat = array.reshape(-1)
    return (flat[start : start + PART] for start in range(0, flat.size, PART))
