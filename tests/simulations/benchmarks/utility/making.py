"""Rows as a benchmark would leave them."""

from itertools import product
from math import inf
from typing import Any

from simulations.benchmarks.utility.rows import Row


def row(method: str = "medgan", **changes: Any) -> Row:
    facts: dict[str, Any] = {
        "study": "mnist",
        "epsilon": 10.0,
        "sites": 3,
        "seed": 0,
        "accuracy": 0.9,
        "balanced_accuracy": 0.88,
        "auc": 0.95,
        "seconds": 12.3,
        "spent": 9.99,
        "digest": "d",
    }
    return Row(method=method, **facts | changes)


def rows() -> list[Row]:
    """Two methods over ε and sites, a pooled one and real images, two seeds each."""
    made = []
    for seed, method in product((0, 1), ("medgan", "dp-merf")):
        for epsilon, sites in ((1.0, 3), (10.0, 3), (inf, 3), (10.0, 1), (10.0, 10)):
            made.append(row(method, seed=seed, epsilon=epsilon, sites=sites, accuracy=0.8 + 0.02 * seed))
    for seed in (0, 1):
        made += [row("dp-gan", seed=seed, epsilon=epsilon, sites=1, accuracy=0.7) for epsilon in (1.0, 10.0)]
        made.append(row("real", seed=seed, epsilon=inf, sites=1, spent=inf, balanced_accuracy=0.95))
    return made
