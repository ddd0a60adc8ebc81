"""The training rounds of a task whose fakes are free: the discriminator alone learns from patients."""

from functools import partial

import torch
from torch import nn

from client.asked import Asked, RoundResult, patient_sampler
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
from medgan_core.gan.steps import Rhythm, generator_step, labels_to_match
from medgan_core.gan.task import SynthesisTask
from medgan_core.messages import Groups
from medgan_core.privacy.engine import PrivateOptimizer
from medgan_core.tensors import initial_discriminator, load, weights_of

_LISTEN_EVERY = 10


def gradient(asked: Asked, task: SynthesisTask) -> torch.Tensor:
    """The clipped gradients of the real term, summed over a fresh sample of patients: [weights]."""
    discriminator = task.make_discriminator().to(asked.device)
    load(discriminator, asked.request.groups["discriminator"])
    training = asked.study.training
    return asked.plan.gradient_sum(
        discriminator,
        task.real_loss,
        *patient_sampler(asked)(),
        physical_batch=training.physical_batch,
        precision=training.precision,
    )


def train(asked: Asked, task: SynthesisTask, local: Groups) -> RoundResult:
    """The plan's discriminator steps on sampled patients, with generator steps between them."""
    study = asked.study
    generator = task.make_generator().to(asked.device)
    load(generator, asked.request.groups["generator"])
    discriminator = initial_discriminator(task, asked.seeds).to(asked.device)
    if known := local.get("discriminator") or asked.request.groups.get("discriminator"):
        load(discriminator, known)
    make_rule = partial(discriminator_rule, study, asked.request.round)
    optimizer = asked.plan.optimizer(
        discriminator,
        make_rule,
        asked.random,
        physical_batch=study.training.physical_batch,
        precision=study.training.precision,
        watch=asked.watch,
    )
    if "discriminator" in asked.request.groups:  # else it is this site's own, and near to nothing
        hold_near(optimizer.rule, study.training.proximal)
    if "momentum" in local:
        put_state(optimizer.rule, local["momentum"])
    metrics = _adversarial_steps(asked, task, generator, optimizer)
    groups = {"generator": weights_of(generator)}
    if study.share == "both":
        return RoundResult(groups | {"discriminator": weights_of(discriminator)}, metrics)
    kept = {"discriminator": weights_of(discriminator), "momentum": take_state(optimizer.rule)}
    return RoundResult(groups, metrics, kept)


def _adversarial_steps(
    asked: Asked, task: SynthesisTask, generator: nn.Module, optimizer: PrivateOptimizer
) -> dict[str, float]:
    """Train both networks in place; returns the metrics that may leave: they come from fakes alone."""
    plan, training = asked.plan, asked.study.training
    public = asked.seeds.child(asked.site.name, asked.request.round).generator()
    steps = generator_rule(asked.study, asked.request.round, generator.parameters())
    hold_near(steps, training.proximal)
    rhythm = Rhythm(training.generator_every, training.adaptive)
    labels = labels_to_match(training.batch, len(task.classes)).to(asked.device)
    statistics = asked.request.groups["statistics"]
    shares = label_shares(statistics, asked.site.name, len(task.classes))
    sample = patient_sampler(asked)
    anchor = anchor_of(asked.study, task, statistics, asked.seeds, asked.device)
    losses: list[float] = []
    rejected: list[float] = []
    for step in range(1, plan.steps + 1):
        drawn = torch.multinomial(shares, training.batch, replacement=True, generator=public)
        fake_labels = drawn.to(asked.device)
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
