"""This project's own run of a study, and the same networks trained in other ways."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.tensors import load
from simulations.benchmarks.baselines.federation import at_one_site, federation
from simulations.benchmarks.baselines.method import changed
from simulations.benchmarks.tasks.case import Case, Reached
from simulations.benchmarks.tasks.judging import judged
from simulations.hospitals import secret_random


def medgan(case: Case) -> Reached:
    """The study as it is: a federation of its sites, with the privacy that it asks for."""
    return trained(case)


def without_discriminator(case: Case) -> Reached:
    """The same federation with an adversarial weight of 0: the generator learns from the reference alone."""
    return trained(case, {"mapping.adversarial_weight": 0.0})


def pooled(case: Case) -> Reached:
    """The same generator without a discriminator and without privacy, all patients at one place.

    Its batches are those of one site, and it takes as many steps as all sites together.
    """
    asked = case.study
    alone = {
        "privacy.mode": "off",
        "mapping.adversarial_weight": 0.0,
        "privacy.sampling_rate": asked.privacy.sampling_rate / asked.sites.count,
        "training.discriminator_steps": asked.training.discriminator_steps * asked.sites.count,
    }
    return _run(case, *at_one_site(changed(asked, alone), case.sites))


def trained(case: Case, settings: Mapping[str, Any] | None = None) -> Reached:
    """The study under these settings at the case's own sites."""
    return _run(case, changed(case.study, settings or {}), case.sites)


def released(case: Case, study: Study, sites: Sequence[Site]) -> tuple[nn.Module, float]:
    """The generator that a federation ends with, in evaluation mode, and the ε that its sites charged."""
    done = federation(study, sites, secret_random)
    generator = case.task.make_generator()
    load(generator, done.state.groups["release"])
    return generator.eval(), done.epsilon


def _run(case: Case, study: Study, sites: Sequence[Site]) -> Reached:
    generator, epsilon = released(case, study, sites)
    return replace(judged(case, generator), epsilon=epsilon)
