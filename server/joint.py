"""A joint step: the coordinator's part, once it has the noisy sum of all sites' gradients.

The sum is released, and everything here is post-processing of it: the fakes' gradient, the discriminator's
update, the generator's step and its moving average (FedSGD: McMahan et al. 2017,
https://arxiv.org/abs/1602.05629, section 2).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medgan_core.adversarial import (
    anchor_of,
    discriminator_rule,
    ema_decay,
    generator_rule,
    label_shares,
    mean_fake_loss,
    put_state,
    take_state,
)
from medgan_core.config import Study
from medgan_core.device import CPU
from medgan_core.gan.ema import ema
from medgan_core.gan.steps import generator_step, labels_to_match
from medgan_core.gan.task import SynthesisTask
from medgan_core.messages import Array, Arrays, Groups
from medgan_core.privacy.engine import NoisedOptimizer
from medgan_core.seeds import Seeds
from medgan_core.tensors import load, weights_of


def joint_step(
    study: Study,
    task: SynthesisTask,
    groups: Groups,
    number: int,
    noisy: Array,
    sites: Sequence[str],
    device: torch.device = CPU,
) -> tuple[dict[str, Arrays], dict[str, Any]]:
    """Both networks after training round `number`, and what may be told of it: it comes from fakes alone.

    `noisy` [weights] is the sum over `sites` of clipped gradients, in units of the clip norm. Groups
    "discriminator_rule" and "generator_rule" are what the update rules remember of the steps before.
    """
    seeds = Seeds(study.seed)
    public = seeds.child("joint", number).generator()
    generator, discriminator = task.make_generator().to(device), task.make_discriminator().to(device)
    load(generator, groups["generator"])
    load(discriminator, groups["discriminator"])
    rule = discriminator_rule(study, number, discriminator.parameters())
    put_state(rule, groups.get("discriminator_rule", {}))
    shares = label_shares(groups["statistics"], sites[0], len(task.classes))
    labels = torch.multinomial(shares, study.training.batch, replacement=True, generator=public).to(device)
    with torch.no_grad():
        fakes = task.sample(generator, labels, public)
    optimizer = NoisedOptimizer(discriminator, rule, clip_norm=study.privacy.clip_norm)
    optimizer.follow(
        _mean_gradient(study, optimizer.parameters, noisy, len(sites)),
        partial(mean_fake_loss, task, fakes, labels),
    )
    with torch.no_grad():
        rejected = float(task.rejects(discriminator, fakes, labels).float().mean())
    facts = {"discriminator_accuracy_on_fakes": rejected, "discriminator_steps": 1.0}
    changed = {"discriminator": weights_of(discriminator), "discriminator_rule": take_state(rule)}
    if number % study.training.generator_every:
        return {**groups, **changed}, facts
    followed, loss = _generator_step(study, task, groups, number, (generator, discriminator), public)
    return {**groups, **changed, **followed}, {"generator_loss": loss, **facts}


def _mean_gradient(
    study: Study, parameters: Sequence[nn.Parameter], noisy: Array, sites: int
) -> list[Tensor]:
    """The sum over the public nominal batch of all sites in it, in the parameters' shapes."""
    scale = study.privacy.clip_norm / (sites * study.nominal_batch)
    parts = torch.from_numpy(noisy * scale).split([p.numel() for p in parameters])
    return [part.view_as(p).to(p) for part, p in zip(parts, parameters, strict=True)]


def _generator_step(
    study: Study,
    task: SynthesisTask,
    groups: Groups,
    number: int,
    networks: tuple[nn.Module, nn.Module],
    public: torch.Generator,
) -> tuple[dict[str, Arrays], float]:
    """The generator's groups after its step against the new discriminator, and its loss."""
    generator, discriminator = networks
    device = next(generator.parameters()).device
    rule = generator_rule(study, number, generator.parameters())
    put_state(rule, groups.get("generator_rule", {}))
    loss = generator_step(
        task,
        generator,
        discriminator,
        rule,
        labels_to_match(study.training.batch, len(task.classes)).to(device),
        public,
        anchor=anchor_of(study, task, groups["statistics"], Seeds(study.seed), device),
        anchor_weight=study.training.anchor_weight,
    )
    latest = weights_of(generator)
    average = ema(groups["average"], latest, ema_decay(study, number))
    return {"generator": latest, "average": average, "generator_rule": take_state(rule)}, loss
