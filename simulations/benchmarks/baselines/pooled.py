"""The ceiling: this project's pipeline with all patients at one site, as by a perfect secure sum."""

from collections.abc import Sequence

from client.site import RandomFor
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.seeds import Seeds
from simulations.benchmarks.baselines.federation import at_one_site, federation
from simulations.benchmarks.baselines.method import Method, Sampler


def pooled(study: Study, sites: Sequence[Site], seeds: Seeds, random: RandomFor) -> Sampler:
    """One site that adds the noise of one."""
    study, together = at_one_site(study, sites)
    return federation(study, together, random).sampler()


POOLED = Method(pooled, pooled=True)
