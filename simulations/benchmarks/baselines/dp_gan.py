"""DP-GAN: a conditional DCGAN from scratch whose discriminator is trained by DP-SGD, at one pooled site.

Bie, Kamath, Zhang 2023, "Private GANs, Revisited", https://arxiv.org/abs/2302.02936: DP-SGD on the
discriminator alone, many discriminator steps for each of the generator, large batches, and a ladder of that
ratio that is climbed while the discriminator tells fewer than 60 % of the fakes. Adam with β = (0.5, 0.999),
the non-saturating loss, 128 latent numbers and C = 1 are those of the authors' code. It runs through this
project's own rounds without anchor, average or start; the ladder is `medgan_core.gan.steps.Rhythm`, the
paper's but that it listens every tenth step and comes down where the discriminator tells more than 80 %.

Scaled down, since the paper's 450,000 steps on 128 images, or 174,000 on 512, take hours of a V100: `STEPS`
on about `BATCH` patients, as many as this project's own study takes at a site; an eighth of the width;
learning rates of 1e-3 for 2e-4, and a ladder that begins at 5, so that so few steps get somewhere (at ε = 10
on PneumoniaMNIST SGD with momentum at 0.1, and a generator step for each step, were worse). Unlike the
paper's, our fakes are not noised, which costs nothing and helps; and labels of fakes are drawn by noisy class
counts, for which a twentieth of ε is kept, since medical sets are not balanced as MNIST is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from client.site import RandomFor
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.seeds import Seeds
from simulations.benchmarks.baselines.federation import at_one_site, federation
from simulations.benchmarks.baselines.method import Method, Sampler, changed

BATCH, STEPS = 256, 400
FROM_SCRATCH: dict[str, Any] = {
    "strategy": "refine",
    "share": "both",
    # The query before the first round asks for class counts alone: features weigh nothing beside this.
    "one_shot.count_weight": 1e3,
    "one_shot.frequencies": 8,
    "one_shot.bandwidths": [0.03],
    "one_shot.gabor_bandwidths": [],
    "one_shot.iterations": 0,
    "privacy.one_shot_share": 0.05,
    "privacy.clip_norm": 1.0,
    "training.loss": "non_saturating",
    "training.latent_size": 128,
    "training.spatial_noise": 0.0,
    "training.generator_width": 24,
    "training.generator_learning_rate": 1e-3,
    "training.generator_every": 5,
    "training.adaptive": True,
    "training.discriminator_width": 16,
    "training.discriminator_optimizer": "adam",
    "training.discriminator_learning_rate": 1e-3,
    "training.final_learning_rate": 1.0,
    "training.batch": 128,
    "training.anchor_weight": 0.0,
    "training.ema_decay": 0.0,
    "evaluation.gate": False,  # there is no one-shot generator to fall back on
    "evaluation.attack": False,  # the published method pays for none
}
SETUP = FROM_SCRATCH | {"rounds": 1, "training.discriminator_steps": STEPS}


def dp_gan(
    study: Study,
    sites: Sequence[Site],
    seeds: Seeds,
    random: RandomFor,
    setup: Mapping[str, Any] = SETUP,
    batch: int = BATCH,
) -> Sampler:
    """All patients at one site; about `batch` of them join each discriminator step."""
    return from_scratch(*at_one_site(study, sites), random, setup, batch)


def from_scratch(
    study: Study, sites: Sequence[Site], random: RandomFor, setup: Mapping[str, Any], batch: int
) -> Sampler:
    """The networks of a setup, trained at these sites; about `batch` patients of a site join each step."""
    study = changed(study, {**setup, "privacy.sampling_rate": sampling_rate(study, batch)})
    return federation(study, sites, random).sampler()


def sampling_rate(study: Study, batch: int) -> float:
    """The share of a site's nominal patients that makes this batch: public, at most 1."""
    return min(1.0, batch / study.sites.nominal_patients)


DP_GAN = Method(dp_gan, {**SETUP, "batch": BATCH}, pooled=True)
