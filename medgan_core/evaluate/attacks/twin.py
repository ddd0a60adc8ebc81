"""The positive control: do the attacks find a generator of this kind that is overfitted on purpose?

That they find nothing in a release says something only if they find this. No patient is touched: the twin of
a generator that draws from noise learns 64 stand-ins by heart, which are made of that generator's images and
differ from them as patients do (`stand_ins`); that of a network that works on images, drawings of blobs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn, optim

from medgan_core.device import CPU
from medgan_core.evaluate.attacks.attacker import attacker_of
from medgan_core.evaluate.attacks.bins import attack_sum
from medgan_core.evaluate.attacks.figures import read_attacks
from medgan_core.evaluate.attacks.phantoms import phantoms
from medgan_core.evaluate.attacks.references import at_once
from medgan_core.evaluate.attacks.stand_ins import stand_ins
from medgan_core.gan.networks import calibrate
from medgan_core.gan.task import GanTask, PatientTask, SynthesisTask, synthesis_of
from medgan_core.seeds import Seeds

MEMBERS = 64
STEPS, BATCH, RATE = 1200, 32, 3e-3
JUDGE_STEPS, JUDGE_RATE = 300, 1e-3
PATIENT_STEPS, PATIENT_BATCH, PATIENT_RATE = 300, 16, 2e-3
_SIGNS, _CALIBRATION = 5, 512


def twin_aucs(
    task: GanTask, generator: nn.Module, attacks: Sequence[str], seeds: Seeds, *, discriminators: bool = True
) -> dict[str, float]:
    """The AUC in [0, 1] of each attack on the twin: of its 64 members against 64 others, by their bins.

    Without `discriminators` the attack of that name has none to ask, as in a study that does not share them.
    """
    if isinstance(task, PatientTask):
        twin, images, labels = _of_patients(task, seeds)
        networks: list[nn.Module] = []
    else:
        twin, networks, images, labels = _of_synthesis(synthesis_of(task), generator, seeds)
    judges = networks if discriminators else []
    attacker = attacker_of(task, twin, judges, attacks, seeds.child("attacker"), CPU)
    cells = attacker.cells(images, labels)
    owner, halves = torch.arange(MEMBERS), torch.arange(MEMBERS) % 2
    sums = [attack_sum(part, owner, halves).numpy() for part in cells.split(MEMBERS)]
    figures = read_attacks(attacks, sums[0], sums[1], 0.0, 0.0).figures
    return {each.name: each.auc for each in figures}


def _of_patients(task: PatientTask, seeds: Seeds) -> tuple[nn.Module, Tensor, Tensor]:
    """The twin, drawings of 64 members and 64 others, and their labels."""
    random = seeds.child("twin").generator()
    images = phantoms(task, 2 * MEMBERS, random)
    labels = torch.full((2 * MEMBERS,), task.trains_on[0] if task.trains_on else 0)
    with _seeded(seeds.child("networks")):
        networks = nn.ModuleDict(
            {"generator": task.make_generator(), "discriminator": task.make_discriminator()}
        )
    frozen = deepcopy(networks).requires_grad_(False)
    rule = optim.Adam(networks.parameters(), PATIENT_RATE, betas=(0.5, 0.999))
    for _ in range(PATIENT_STEPS):
        frozen.load_state_dict(networks.state_dict())
        chosen = torch.randint(MEMBERS, (PATIENT_BATCH,), generator=random)
        rows = task.prepare(images[chosen], random)
        loss = task.patient_loss(networks, frozen, rows, labels[chosen]).mean()
        if task.free_loss is not None:
            loss = loss + task.free_loss(networks, frozen, random)
        rule.zero_grad()
        loss.backward()
        rule.step()
    return networks["generator"].eval(), images, labels


def _of_synthesis(
    task: SynthesisTask, generator: nn.Module, seeds: Seeds
) -> tuple[nn.Module, list[nn.Module], Tensor, Tensor]:
    """The twin, a discriminator of its members, and 64 members and 64 others with labels."""
    random = seeds.child("twin").generator()
    labels = torch.arange(2 * MEMBERS) % len(task.classes)
    latents = torch.randn(2 * MEMBERS, task.latent_size, generator=random)
    source = deepcopy(generator).cpu().eval().requires_grad_(False)
    size = at_once(task)
    parts = zip(latents.split(size), labels.split(size), strict=True)
    drawn = torch.cat([source(*part).float() for part in parts]).nan_to_num(0.0)
    images = stand_ins(drawn, labels, random)
    twin = _by_heart(task, source, images[:MEMBERS], labels[:MEMBERS], random)
    with _seeded(seeds.child("judge")):
        judge = task.make_discriminator()
    _trained(task, judge, source, images[:MEMBERS], labels[:MEMBERS], random)
    return twin, [judge], images, labels


def _by_heart(
    task: SynthesisTask, source: nn.Module, images: Tensor, labels: Tensor, random: torch.Generator
) -> nn.Module:
    """A copy that draws one of the members of a label, by the signs of the first numbers of the latent."""
    twin = deepcopy(source).requires_grad_().train()
    rule = optim.Adam(twin.parameters(), RATE, betas=(0.5, 0.999))
    places = [(labels == label).nonzero()[:, 0] for label in range(len(task.classes))]
    for _ in range(STEPS):
        latents = torch.randn(min(BATCH, at_once(task)), task.latent_size, generator=random)
        asked = torch.arange(len(latents)) % len(task.classes)
        loss = (twin(latents, asked) - images[_members(latents, asked, places)]).square().mean()
        rule.zero_grad()
        loss.backward()
        rule.step()
    calibration = torch.randn(_CALIBRATION, task.latent_size, generator=random)
    calibrate(twin, calibration, torch.arange(_CALIBRATION) % len(task.classes))
    return twin


def _members(latents: Tensor, asked: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Which member each latent [n, z] stands for, [n]: one of those of the label that is asked for."""
    signs = (latents[:, :_SIGNS] > 0).long()
    number = (signs * 2 ** torch.arange(signs.shape[1])).sum(dim=1)
    return torch.stack(
        [places[label][n % len(places[label])] for label, n in zip(asked, number, strict=True)]
    )


def _trained(
    task: SynthesisTask,
    judge: nn.Module,
    source: nn.Module,
    images: Tensor,
    labels: Tensor,
    random: torch.Generator,
) -> None:
    """Have a discriminator learn, in place, the members from ever new images of their kind."""
    rule = optim.Adam(judge.parameters(), JUDGE_RATE, betas=(0.5, 0.999))
    size = min(BATCH, at_once(task))
    for _ in range(JUDGE_STEPS):
        chosen = torch.randint(len(images), (size,), generator=random)
        with torch.no_grad():
            drawn = task.sample(source, labels[chosen], random).nan_to_num(0.0)
        fakes = stand_ins(drawn, labels[chosen], random)
        real = task.real_loss(judge, images[chosen], labels[chosen])
        loss = (real + task.fake_loss(judge, fakes, labels[chosen])).mean()
        rule.zero_grad()
        loss.backward()
        rule.step()


@contextmanager
def _seeded(seeds: Seeds) -> Iterator[None]:
    """Initial weights by these seeds alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seeds.integer())
        yield
