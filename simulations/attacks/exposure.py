"""What one discriminator step of a site shows the coordinator, by the functions that run at the site.

The coordinator knows the study, the weights that it sent and the public seed of the site's fakes. So it plays
the same round with nobody in it, and the difference of the two updates is what patients did.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from client.round import local_round
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.gan.task import SynthesisTask
from medgan_core.messages import Groups, Phase, Request
from medgan_core.privacy.noise import SecretRandom
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.seeds import Seeds
from medgan_core.tensors import load


class Present:
    """A secret source in whose coins a site's first patients are in every sample; None: all of them.

    That is the attacker's best luck; the other coins and all noise are those of the source within.
    """

    def __init__(self, within: SecretRandom, patients: int | None = None) -> None:
        self.normal = within.normal
        self._within, self._patients = within, patients

    def uniform(self, count: int) -> Tensor:
        """Coins in [0, 1), float64 [count]; those of the patients are 0, below every sampling rate."""
        coins = self._within.uniform(count)
        coins[: self._patients] = 0.0
        return coins


class Silence:
    """A source without noise, for the rounds that an attacker plays by itself."""

    def normal(self, count: int) -> Tensor:
        """Zeros, float64 [count]."""
        return torch.zeros(count, dtype=torch.float64)

    uniform = normal


@dataclass(frozen=True, eq=False)
class Scene:
    """What all know of a training round: the study, its plan for one step, and the weights that were sent.

    `plan.private` says whether the site clips and adds noise; all else is the same either way.
    """

    study: Study
    task: SynthesisTask
    plan: PrivacyPlan
    sent: Groups

    @classmethod
    def of(cls, study: Study, task: SynthesisTask, plan: PrivacyPlan, sent: Groups) -> "Scene":
        """One step of the first training round, with the noise of a step of the whole plan.

        The update rule is plain SGD, which tells most: its step is the gradient.
        """
        training = {"discriminator_optimizer": "sgd", "precision": "float32", "proximal": 0.0}
        told = study.model_copy(update={"training": study.training.model_copy(update=training)})
        return cls(told, task, replace(plan, steps=1), sent)

    def without_privacy(self) -> "Scene":
        """The same round without clipping and noise."""
        return replace(self, plan=replace(self.plan, private=False, noise_multiplier=0.0))

    def discriminator(self) -> nn.Module:
        """The network as it was sent."""
        network = self.task.make_discriminator()
        load(network, self.sent["discriminator"])
        return network

    @property
    def deviation(self) -> float:
        """That of the noise in each number of `patients_gradient`; 0 without privacy."""
        return self.plan.noise_multiplier * self.plan.clip_norm if self.plan.private else 0.0


def update(scene: Scene, site: Site, random: SecretRandom) -> list[Tensor]:
    """How a site's answer to the first training round moves the discriminator's weights, each float64."""
    request = Request("run", 1, Phase.TRAIN, scene.plan.digest(), scene.sent)
    seeds = Seeds(scene.study.seed)
    told = local_round(scene.study, scene.task, scene.plan, site, request, {}, seeds, random)
    before, after = scene.sent["discriminator"], told.groups["discriminator"]
    return [torch.tensor(after[name]).double() - torch.tensor(before[name]).double() for name in before]


def without_patients(scene: Scene, site: Site) -> list[Tensor]:
    """The same with nobody there, as the coordinator reckons it: what public fakes do.

    Of the site only its name counts.
    """
    nobody = site.training.of_patients([])
    return update(scene, Site(site.name, nobody, nobody), Silence())


def patients_gradient(scene: Scene, seen: Sequence[Tensor], fakes: Sequence[Tensor]) -> list[Tensor]:
    """What an update holds beside the step on fakes: the clipped sum over patients and its noise.

    Without privacy the mean over patients.
    """
    divisor = scene.plan.nominal_batch if scene.plan.private else 1.0
    scale = -divisor / scene.study.training.discriminator_learning_rate
    return [(both - alone) * scale for both, alone in zip(seen, fakes, strict=True)]
