"""The real training images of all sites, without privacy: what no synthetic set is expected to pass."""

from collections.abc import Sequence
from math import inf

from torch import Tensor

from client.site import RandomFor
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.seeds import Seeds
from simulations.benchmarks.baselines.federation import at_one_site
from simulations.benchmarks.baselines.method import Method, Sampler


def real(study: Study, sites: Sequence[Site], seeds: Seeds, random: RandomFor) -> Sampler:
    """All training images with their labels, however many are asked for."""
    _, (together,) = at_one_site(study, sites)

    def draw(count: int, seeds: Seeds) -> tuple[Tensor, Tensor]:
        return together.training.images, together.training.labels

    return Sampler(draw, inf)


REAL = Method(real, pooled=True, private=False)
