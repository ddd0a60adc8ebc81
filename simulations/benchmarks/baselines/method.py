"""What every method of the benchmark is: one function from the sites of a study to a sampler."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from client.site import RandomFor
from medgan_core.codec import flatten, unflatten
from medgan_core.config import Study, parse_study
from medgan_core.data.source import Site
from medgan_core.seeds import Seeds

Draw = Callable[[int, Seeds], tuple[Tensor, Tensor]]
Train = Callable[[Study, Sequence[Site], Seeds, RandomFor], "Sampler"]


@dataclass(frozen=True, eq=False)
class Sampler:
    """What a method gives: `draw(n, seeds)`, images [n, c, h, w] in [-1, 1] with labels [n], classes alike.

    `epsilon` is that of the events that the sites' ledgers charged, at the study's δ; infinity without
    privacy.
    """

    draw: Draw
    epsilon: float


@dataclass(frozen=True, eq=False)
class Method:
    """A method by its function. `setup` is all that it decides beside the study: results are bound to it.

    `pooled`: all patients come to one site, whatever the study's sites. `summed`: it asks for secure sums,
    hence for privacy and three sites or more. `private`: there is an ε to choose.
    """

    train: Train
    setup: Mapping[str, Any] = field(default_factory=dict)
    pooled: bool = False
    summed: bool = False
    private: bool = True


def changed(study: Study, settings: Mapping[str, Any]) -> Study:
    """The study with these dotted keys. Raises ConfigError for what a study may not have."""
    return parse_study(unflatten(flatten(study.to_dict()) | dict(settings)))
