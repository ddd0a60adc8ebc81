"""The training rounds of a task whose fakes are made of patients' images.

All terms of all networks are one clipped gradient of each patient, one mechanism and one simultaneous update;
only what a task draws from noise is free.
"""

from copy import deepcopy
from functools import partial

import torch
from torch import nn

from client.asked import Asked, RoundResult, patient_sampler
from medgan_core.adversarial import discriminator_rule, generator_rule, hold_near, put_state, take_state
from medgan_core.gan.task import PatientTask
from medgan_core.messages import Groups
from medgan_core.privacy.engine import PrivateOptimizer
from medgan_core.tensors import initial_discriminator, load, weights_of

_RULES = {"generator": generator_rule, "discriminator": discriminator_rule}


def train_on_patients(asked: Asked, task: PatientTask, local: Groups) -> RoundResult:
    """The plan's steps of all networks at once. `local` is what the site kept of its own discriminator."""
    networks, sent = _networks(asked, task, local), asked.request.groups
    optimizer = asked.plan.optimizer(
        networks,
        {name: partial(rule, asked.study, asked.request.round) for name, rule in _RULES.items()},
        asked.random,
        physical_batch=asked.study.training.physical_batch,
        precision=asked.study.training.precision,
        free_parts=task.free_parts,
        watch=asked.watch,
    )
    rules = dict(zip(_RULES, optimizer.rules, strict=True))
    for name in set(_RULES) & set(sent):
        hold_near(rules[name], asked.study.training.proximal)
    if "momentum" in local:
        put_state(rules["discriminator"], local["momentum"])
    _steps(asked, task, networks, optimizer)
    weights = {name: weights_of(networks[name]) for name in _RULES}
    metrics = {"discriminator_steps": float(asked.plan.steps)}
    if asked.study.share == "both":
        return RoundResult(weights, metrics)
    kept = {"discriminator": weights["discriminator"], "momentum": take_state(rules["discriminator"])}
    return RoundResult({"generator": weights["generator"]}, metrics, kept)


def _networks(asked: Asked, task: PatientTask, local: Groups) -> nn.ModuleDict:
    """Both networks with the weights that came, or that the site kept, on its device."""
    sent = asked.request.groups
    networks = nn.ModuleDict(
        {"generator": task.make_generator(), "discriminator": initial_discriminator(task, asked.seeds)}
    )
    load(networks["generator"], sent["generator"])
    if known := local.get("discriminator") or sent.get("discriminator"):
        load(networks["discriminator"], known)
    return networks.to(asked.device)


def _steps(asked: Asked, task: PatientTask, networks: nn.ModuleDict, optimizer: PrivateOptimizer) -> None:
    """Train in place. The frozen copy is of the weights before the step: the update is simultaneous."""
    frozen, sample, free = deepcopy(networks).requires_grad_(False), patient_sampler(asked), None
    public = asked.seeds.child(asked.site.name, asked.request.round).generator()

    def loss(network: nn.Module, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return task.patient_loss(networks, frozen, rows, labels)

    if (drawn := task.free_loss) is not None:

        def free(network: nn.Module) -> torch.Tensor:
            return drawn(networks, frozen, public)

    for _ in range(asked.plan.steps):
        frozen.load_state_dict(networks.state_dict())
        optimizer.step(loss, *sample(), free)
