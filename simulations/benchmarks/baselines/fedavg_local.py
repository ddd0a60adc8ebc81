"""Local DP-GANs, averaged: each site trains both networks from scratch with its own noise.

McMahan et al. 2017, https://arxiv.org/abs/1602.05629, algorithm 1, with the DP-GAN of `dp_gan` as what a
site trains, at its own full noise. It is what this project is without its one-shot start and its anchor. As
many steps at each site as the pooled DP-GAN has, in ten rounds; smaller sites sample a larger share.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from client.site import RandomFor
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.seeds import Seeds
from simulations.benchmarks.baselines.dp_gan import BATCH, FROM_SCRATCH, STEPS, from_scratch
from simulations.benchmarks.baselines.method import Method, Sampler

ROUNDS = 10
SETUP = FROM_SCRATCH | {"rounds": ROUNDS, "training.discriminator_steps": STEPS // ROUNDS}


def fedavg_local(
    study: Study,
    sites: Sequence[Site],
    seeds: Seeds,
    random: RandomFor,
    setup: Mapping[str, Any] = SETUP,
    batch: int = BATCH,
) -> Sampler:
    """Generators and discriminators of all sites averaged after each round."""
    return from_scratch(study, sites, random, setup, batch)


FEDAVG_LOCAL = Method(fedavg_local, {**SETUP, "batch": BATCH})
