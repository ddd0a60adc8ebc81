"""This project's own pipeline, as the study has it: with rounds and gate or without them, summed or not."""

from collections.abc import Sequence

from client.site import RandomFor
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.seeds import Seeds
from simulations.benchmarks.baselines.federation import federation
from simulations.benchmarks.baselines.method import Method, Sampler, changed

ONE_SHOT = {"strategy": "one_shot"}
SUMMED = {"privacy.secure_sum": True}


def medgan(study: Study, sites: Sequence[Site], seeds: Seeds, random: RandomFor) -> Sampler:
    """One-shot start, and rounds where the gate finds them better; every site adds the full noise."""
    return federation(study, sites, random).sampler()


def one_shot(study: Study, sites: Sequence[Site], seeds: Seeds, random: RandomFor) -> Sampler:
    """The one-shot start alone, with the whole ε."""
    return medgan(changed(study, ONE_SHOT), sites, seeds, random)


def summed(study: Study, sites: Sequence[Site], seeds: Seeds, random: RandomFor) -> Sampler:
    """As `medgan`, by secure sums: ε holds if no more than `privacy.collude` sites help the coordinator."""
    return medgan(changed(study, SUMMED), sites, seeds, random)


def one_shot_summed(study: Study, sites: Sequence[Site], seeds: Seeds, random: RandomFor) -> Sampler:
    """The one-shot start by a secure sum, alone."""
    return medgan(changed(study, ONE_SHOT | SUMMED), sites, seeds, random)


MEDGAN = Method(medgan)
MEDGAN_ONE_SHOT = Method(one_shot, ONE_SHOT)
MEDGAN_SUMMED = Method(summed, SUMMED, summed=True)
MEDGAN_ONE_SHOT_SUMMED = Method(one_shot_summed, ONE_SHOT | SUMMED, summed=True)
