"""How attacks on the generator score a site's patients: those it was trained on, or those held out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from client.asked import Asked
from medgan_core.config import Attack
from medgan_core.data.source import SiteData
from medgan_core.evaluate.attacks.attacker import Attacker, attacker_of
from medgan_core.gan.task import GanTask, PatientTask
from medgan_core.messages import DISCRIMINATORS, Arrays, Groups, Phase, digest_groups
from medgan_core.seeds import Seeds
from medgan_core.tensors import load, seeded

Add = Callable[[Tensor, Tensor, Tensor], Tensor]


def attacked(asked: Asked, add: Add) -> Tensor:
    """The cells of the patients who join, summed by `add`: [attacks, 2, bins].

    Whether a patient joins, and in which half, are secret coins of each patient: members are held against
    members.
    """
    members = asked.request.phase is Phase.ATTACK
    data = asked.site.training if members else asked.site.held_out
    rate = asked.plan.attack_rate if members else asked.plan.control_rate
    joins = asked.random.uniform(len(data)) < rate
    half = (asked.random.uniform(len(data)) < 0.5).long()
    images, labels, owner = _of_known_classes(asked.task, data, joins)
    target = _Target(
        digest_groups(asked.request.groups),
        asked.study.attacks,
        asked.seeds.child("attacks"),
        asked.device,
        asked.task,
        asked.request.groups,
    )
    return add(_attacker(target).cells(images, labels), owner, half)


@dataclass(frozen=True)
class _Target:
    """What is attacked, with what; the same where the digest is."""

    digest: str
    attacks: tuple[Attack, ...]
    seeds: Seeds
    device: torch.device
    task: GanTask = field(compare=False)
    groups: Groups = field(compare=False)


@lru_cache(maxsize=1)
def _attacker(target: _Target) -> Attacker:
    """Made once for both rounds, and in a simulation for all sites: it draws thousands of images."""
    generator = target.task.make_generator()
    load(generator, target.groups["release"])
    discriminators = _discriminators(target.task, target.groups.get(DISCRIMINATORS, {}))
    return attacker_of(
        target.task, generator.eval(), discriminators, target.attacks, target.seeds, target.device
    )


def _of_known_classes(task: GanTask, data: SiteData, joins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and owners of the patients who join, of what a task would train on alone."""
    kept = joins[data.owner]
    if isinstance(task, PatientTask) and task.trains_on:
        kept &= task.answers(data.labels) == 0
    return data.images[kept], data.labels[kept], data.owner[kept]


def _discriminators(task: GanTask, arrays: Arrays) -> list[nn.Module]:
    """Those of the rounds that were kept, by the number that begins a tensor's name."""
    rounds: dict[int, dict[str, Any]] = {}
    for name, array in arrays.items():
        made, tensor = name.split(".", 1)
        rounds.setdefault(int(made), {})[tensor] = array
    found = []
    for _, weights in sorted(rounds.items()):
        network = seeded(task.make_discriminator, 0)
        load(network, weights)
        found.append(network.eval())
    return found
