"""The coordinator's own momentum: Hsu, Qi, Brown 2019, https://arxiv.org/abs/1909.06335 (FedAvgM)."""

import numpy as np

from medgan_core.dtypes import is_floating, widened
from medgan_core.messages import Array, Arrays, Groups
from medgan_core.sections import AggregationConfig

VELOCITY = "_velocity"
"""Ends the name of the group that holds the running sum of a network's steps; part of the journal."""


def moved(asked: AggregationConfig, groups: Groups, found: Groups) -> dict[str, Arrays]:
    """The networks' next weights, and their velocities for the round after.

    `groups` are the coordinator's before the round, `found` what the sites' updates gave together. With
    Δ = found - before, v = βv + Δ and w = before + ηv, each tensor by itself; integers are as found. With
    β = 0 and η = 1 the weights are those found, bit by bit, and there is no velocity.
    """
    if not asked.moving:
        return dict(found)
    after: dict[str, Arrays] = {}
    for group, arrays in found.items():
        known = groups.get(f"{group}{VELOCITY}", {})
        pairs = {name: _step(asked, groups[group][name], arrays[name], known.get(name)) for name in arrays}
        after[group] = {name: weights for name, (weights, _) in pairs.items()}
        if asked.momentum:
            after[f"{group}{VELOCITY}"] = {name: v for name, (_, v) in pairs.items() if v is not None}
    return after


def _step(
    asked: AggregationConfig, before: Array, found: Array, velocity: Array | None
) -> tuple[Array, Array | None]:
    if not is_floating(before.dtype):
        return found, None
    wide = widened(before.dtype)
    step = np.subtract(found, before, dtype=wide)
    if velocity is not None:
        step += wide.type(asked.momentum) * velocity
    weights = before + wide.type(asked.server_learning_rate) * step
    return weights.astype(before.dtype), step
