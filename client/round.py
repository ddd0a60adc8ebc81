"""What a site does in one round: pure functions of task, plan, data, incoming state and randomness.

No federation framework, no ledger and no disk: `client.site` charges before it calls `local_round`, and the
simulation calls the same. Public: the request, the plan, the study. Private: the site's data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from medgan_core.adversarial import (
    anchor_of,
    discriminator_rule,
    generator_rule,
    hold_near,
    label_shares,
    mean_fake_loss,
    put_state,
    take_state,
)
from medgan_core.config import Study
from medgan_core.data.sampling import PatientImages
from medgan_core.data.source import Site
from medgan_core.data.transforms import augmentation
from medgan_core.evaluate.gate import advantage_grid_sum, advantage_sum
from medgan_core.evaluate.histogram import score_grid_histogram, score_histogram
from medgan_core.evaluate.utility import class_scores, make_classifier
from medgan_core.gan.steps import Rhythm, balanced_labels, generator_step
from medgan_core.gan.task import GanTask
from medgan_core.messages import Array, Groups, Phase, Request
from medgan_core.privacy.embedding import Features, patient_grid_sum, patient_sum
from medgan_core.privacy.engine import PrivateOptimizer
from medgan_core.privacy.grid import to_words
from medgan_core.privacy.noise import DiscreteRandom, SecretRandom
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.sum_keys import Words
from medgan_core.seeds import Seeds
from medgan_core.tensors import initial_discriminator, load, seeded, weights_of

_LISTEN_EVERY = 10


@dataclass(frozen=True, eq=False)
class RoundResult:
    """What leaves a site (`groups`, `metrics`) and what stays there, sealed with it (`local`)."""

    groups: Groups
    metrics: Mapping[str, float] = field(default_factory=dict)
    local: Groups = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Asked:
    """All that a round is a function of, but for what the site kept."""

    study: Study
    task: GanTask
    plan: PrivacyPlan
    site: Site
    request: Request
    seeds: Seeds
    random: SecretRandom


def local_round(
    study: Study,
    task: GanTask,
    plan: PrivacyPlan,
    site: Site,
    request: Request,
    local: Groups,
    seeds: Seeds,
    random: SecretRandom,
) -> RoundResult:
    """One round of a site. `local` is what its latest training round kept; `random` is secret."""
    asked = _Asked(study, task, plan, site, request, seeds, random)
    if request.phase is Phase.ONE_SHOT:
        return _one_shot(asked)
    if request.phase is Phase.GATE:
        return _gate(asked)
    if request.phase is Phase.EVALUATE:
        return _evaluate(asked)
    return _train(asked, local)


def noisy_words(
    study: Study,
    task: GanTask,
    plan: PrivacyPlan,
    site: Site,
    request: Request,
    seeds: Seeds,
    random: SecretRandom,
) -> Words:
    """What a site puts under its mask in a secure sum: its own sum on the grid and its share of the noise.

    Uint64 [n], modulo 2^64. Raises TypeError for a source that cannot draw on a grid.
    """
    if not isinstance(random, DiscreteRandom):
        raise TypeError("a secure sum needs discrete noise: this source has none")
    asked = _Asked(study, task, plan, site, request, seeds, random)
    total = {
        Phase.ONE_SHOT: partial(_embedding, asked, patient_grid_sum),
        Phase.TRAIN: partial(_gradient, asked),
        Phase.GATE: partial(_advantage, asked, advantage_grid_sum),
        Phase.EVALUATE: partial(_histogram, asked, score_grid_histogram),
    }[request.phase]()
    noise = random.discrete(total.numel(), plan.event(request.phase).share_deviation)
    return to_words(total.flatten().numpy() + noise)


def _one_shot(asked: _Asked) -> RoundResult:
    """Release the noisy embedding sum of the training patients."""
    total = _embedding(asked, patient_sum)
    noisy = _noised(total, asked.plan.one_shot_noise_multiplier, asked.random)
    return RoundResult({"statistics": {"embedding": noisy}})


def _embedding(asked: _Asked, add: Callable[..., torch.Tensor]) -> torch.Tensor:
    """The embedding of the training patients, summed by `add`: [classes, d + 1]."""
    data, task, one_shot = asked.site.training, asked.task, asked.study.one_shot
    features = Features.of(one_shot, task.image_shape, asked.seeds)
    with torch.no_grad():
        embedded = torch.cat([features(part) for part in data.images.split(512)])
    return add(embedded, data.labels, data.owner, len(task.classes), one_shot.count_weight)


def _gate(asked: _Asked) -> RoundResult:
    """Release how much better held-out patients are told by one classifier than by the other, with noise."""
    noisy = _noised(_advantage(asked, advantage_sum), asked.plan.gate_noise_multiplier, asked.random)
    return RoundResult({"statistics": {"gate": noisy}})


def _advantage(asked: _Asked, add: Callable[..., torch.Tensor]) -> torch.Tensor:
    """That of the refined generator's classifier over the one-shot's, summed by `add`: [64]."""
    data = asked.site.held_out
    refined, one_shot = (_scores(asked, f"classifier_{name}") for name in ("refined", "one_shot"))
    return add(refined, one_shot, data.labels, data.owner)


def _evaluate(asked: _Asked) -> RoundResult:
    """Release the noisy score histogram of the held-out patients under the classifier that came along."""
    histogram = _histogram(asked, score_histogram)
    noisy = _noised(histogram, asked.plan.evaluation_noise_multiplier, asked.random)
    return RoundResult({"statistics": {"histogram": noisy}})


def _histogram(asked: _Asked, add: Callable[..., torch.Tensor]) -> torch.Tensor:
    """The score histogram of the held-out patients, summed by `add`: [classes, classes, 10]."""
    data = asked.site.held_out
    return add(_scores(asked, "classifier"), data.labels, data.owner)


def _scores(asked: _Asked, group: str) -> torch.Tensor:
    task = asked.task
    classifier = seeded(lambda: make_classifier(task.image_shape[0], len(task.classes)), 0).eval()
    load(classifier, asked.request.groups[group])
    return class_scores(classifier, asked.site.held_out.images)


def _gradient(asked: _Asked) -> torch.Tensor:
    """The clipped gradients of the real term, summed over a fresh sample of patients: [weights]."""
    discriminator = asked.task.make_discriminator()
    load(discriminator, asked.request.groups["discriminator"])
    training = asked.study.training
    return asked.plan.gradient_sum(
        discriminator,
        asked.task.real_loss,
        *_patient_sampler(asked)(),
        physical_batch=training.physical_batch,
        precision=training.precision,
    )


def _train(asked: _Asked, local: Groups) -> RoundResult:
    """The plan's discriminator steps on sampled patients, with generator steps between them."""
    study, task = asked.study, asked.task
    generator = task.make_generator()
    load(generator, asked.request.groups["generator"])
    discriminator = initial_discriminator(task, asked.seeds)
    if known := local.get("discriminator") or asked.request.groups.get("discriminator"):
        load(discriminator, known)
    make_rule = partial(discriminator_rule, study, asked.request.round)
    optimizer = asked.plan.optimizer(
        discriminator,
        make_rule,
        asked.random,
        physical_batch=study.training.physical_batch,
        precision=study.training.precision,
    )
    if "discriminator" in asked.request.groups:  # else it is this site's own, and near to nothing
        hold_near(optimizer.rule, study.training.proximal)
    if "momentum" in local:
        put_state(optimizer.rule, local["momentum"])
    metrics = _adversarial_steps(asked, generator, optimizer)
    groups = {"generator": weights_of(generator)}
    if study.share == "both":
        return RoundResult(groups | {"discriminator": weights_of(discriminator)}, metrics)
    kept = {"discriminator": weights_of(discriminator), "momentum": take_state(optimizer.rule)}
    return RoundResult(groups, metrics, kept)


def _adversarial_steps(asked: _Asked, generator: nn.Module, optimizer: PrivateOptimizer) -> dict[str, float]:
    """Train both networks in place; returns the metrics that may leave: they come from fakes alone."""
    task, plan, training = asked.task, asked.plan, asked.study.training
    public = asked.seeds.child(asked.site.name, asked.request.round).generator()
    steps = generator_rule(asked.study, asked.request.round, generator.parameters())
    hold_near(steps, training.proximal)
    rhythm = Rhythm(training.generator_every, training.adaptive)
    labels = balanced_labels(training.batch, len(task.classes))
    statistics = asked.request.groups["statistics"]
    shares = label_shares(statistics, asked.site.name, len(task.classes))
    sample, anchor = _patient_sampler(asked), anchor_of(asked.study, task, statistics, asked.seeds)
    losses: list[float] = []
    rejected: list[float] = []
    for step in range(1, plan.steps + 1):
        fake_labels = torch.multinomial(shares, training.batch, replacement=True, generator=public)
        with torch.no_grad():
            fakes = task.sample(generator, fake_labels, public)
        optimizer.step(task.real_loss, *sample(), partial(mean_fake_loss, task, fakes, fake_labels))
        if step % _LISTEN_EVERY == 0 or step == plan.steps:
            with torch.no_grad():
                rejected.append(float(task.rejects(optimizer.network, fakes, fake_labels).float().mean()))
            rhythm.hear(rejected[-1])
        if rhythm.due(step) or (step == plan.steps and not losses):
            loss = generator_step(
                task,
                generator,
                optimizer.network,
                steps,
                labels,
                public,
                anchor=anchor,
                anchor_weight=training.anchor_weight,
            )
            losses.append(loss)
    return {
        "generator_loss": losses[-1],
        "discriminator_accuracy_on_fakes": sum(rejected) / len(rejected),
        "discriminator_steps": float(plan.steps),
    }


def _patient_sampler(asked: _Asked) -> Callable[[], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Images, labels and owners of a fresh Poisson sample at each call, augmented where the study asks.

    An image of several views has several rows, of the same owner (augmentation multiplicity, De et al. 2022).
    Coins and augmentation are secret: were the augmentation's stream public, a patient's presence would shift
    the views of all others, and one patient would change more than one clipped gradient.
    """
    patients, count = PatientImages(asked.site.training), len(asked.site.training)
    augment = augmentation(asked.study.data)
    variation = torch.Generator()
    if augment is not None:
        variation.manual_seed(int(asked.random.uniform(1) * 2**53))

    def sample() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images, labels, owner = patients.sample(asked.random.uniform(count), asked.plan.sampling_rate)
        if augment is not None and len(images):
            several = asked.study.data.views
            images, labels, owner = (part.repeat_interleave(several, 0) for part in (images, labels, owner))
            images = augment(images, variation)
        return images, labels, owner

    return sample


def _noised(total: torch.Tensor, noise_multiplier: float, random: SecretRandom) -> Array:
    """A sum of sensitivity 1 with Gaussian noise, float64."""
    noise = random.normal(total.numel()).view_as(total) * noise_multiplier
    noisy: Array = (total.double() + noise).numpy()
    return noisy
