"""Which updates are acceptable, and their average. Pure functions of arrays and public weights."""

from collections.abc import Mapping, Sequence

import numpy as np

from medgan_core.errors import UpdateError
from medgan_core.messages import METRICS, Array, Groups, Receipt, Request, Update
from medgan_core.privacy.plan import PrivacyPlan


def check_update(update: Update, request: Request, expected: Groups) -> None:
    """Refuse an update that is not an answer to this request, by name.

    `expected` gives the groups that must come back, with the shape and dtype of each tensor. Raises
    UpdateError for another round or plan, missing or extra tensors or metrics, another shape or dtype, NaN
    and infinity.
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
    metrics = METRICS[request.phase] if request.secure is None else ()
    _check_names(where, "metric", set(update.metrics), set(metrics))
    _check_names(where, "group", set(update.groups), set(expected))
    for group, arrays in expected.items():
        _check_names(where, f"tensor of {group}", set(update.groups[group]), set(arrays))
        for name, like in arrays.items():
            _check_array(f"{where}: {group}/{name}", update.groups[group][name], like)


def check_charge(update: Update, request: Request, plan: PrivacyPlan) -> None:
    """Refuse an update whose receipt charged another event than the plan's, or another local one."""
    event, receipt = plan.event(request.phase), update.receipt
    local = event.local if event.shares else None
    query = request.query() if event.shares else ""
    if (receipt.event, receipt.local_event, receipt.query) != (event, local, query):
        where = f"update of {update.site} in round {request.round}"
        raise UpdateError(f"{where}: its receipt charged another event than the plan's")


def charged(update: Update, request: Request, plan: PrivacyPlan) -> Receipt | None:
    """The receipt of an update, where it is that of this request: its content has left the site."""
    receipt = update.receipt
    asked = (update.site, request.run, request.round, request.phase, request.digest())
    given = (receipt.site, receipt.run, receipt.round, receipt.phase, receipt.request_digest)
    return receipt if given == asked and receipt.event == plan.event(request.phase) else None


def average(updates: Sequence[Update], weights: Mapping[str, float], group: str) -> dict[str, Array]:
    """The weighted mean of one group over sites, accumulated in float64 (McMahan et al. 2017, FedAvg).

    `weights` are public and renormalised over the sites that answered.
    """
    ordered = sorted(updates, key=lambda update: update.site)
    whole = sum(weights[update.site] for update in ordered)
    mean: dict[str, Array] = {}
    for name, like in ordered[0].groups[group].items():
        summed = np.zeros(like.shape, dtype=np.float64)
        for update in ordered:
            summed += (weights[update.site] / whole) * update.groups[group][name]
        mean[name] = summed.astype(like.dtype)
    return mean


def total(updates: Sequence[Update], group: str, name: str) -> Array:
    """The plain sum of one tensor over sites, in the order of their names."""
    ordered = sorted(updates, key=lambda update: update.site)
    summed: Array = np.sum([update.groups[group][name] for update in ordered], axis=0)
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
    if not np.isfinite(array).all():
        raise UpdateError(f"{where}: holds NaN or infinity")
