"""What attacks a generator: scores of images, higher for those that it seems to have been trained on.

Built from what leaves the federation alone: the generator that will be released, and the discriminators that
its coordinator saw. The score of an image is a function of that image and its label; so are its bins, whose
edges no real image decides.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medgan_core.errors import ConfigError
from medgan_core.evaluate.attacks.comparing import density, nearest
from medgan_core.evaluate.attacks.discriminating import discriminator
from medgan_core.evaluate.attacks.inverting import inversion
from medgan_core.evaluate.attacks.losing import loss, loss_edges
from medgan_core.evaluate.attacks.references import draw_references, drawn
from medgan_core.evaluate.attacks.stand_ins import edges_of, stand_ins
from medgan_core.evaluate.attacks.views import Score
from medgan_core.gan.task import GanTask, PatientTask, SynthesisTask, synthesis_of
from medgan_core.seeds import Seeds

ON_SYNTHESIS = ("discriminator", "nearest", "density", "inversion")
ON_PATIENTS = ("loss",)
_STAND_INS, _LEAST_STAND_INS, _NUMBERS = 384, 96, 2**20
_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Attacker:
    """Attacks by name, the score of each, and the edges [A, 11] of its bins."""

    attacks: tuple[str, ...]
    score_of: tuple[Score, ...]
    edges: Tensor
    device: torch.device

    def scores(self, images: Tensor, labels: Tensor) -> Tensor:
        """Of images [n, c, h, w] in [-1, 1] with labels [n]: float64 [n, A], on the CPU."""
        found = [torch.empty(0, len(self.attacks), dtype=torch.float64)]
        for part, of_part in zip(images.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True):
            found.append(_scored(self.score_of, part.to(self.device), of_part.to(self.device)))
        return torch.cat(found)

    def cells(self, images: Tensor, labels: Tensor) -> Tensor:
        """The bins of these scores: int64 [n, A] in [0, 12); a score that is no number is in the lowest."""
        scores = self.scores(images, labels).nan_to_num(-torch.inf)
        return (scores[:, :, None] > self.edges).sum(dim=2)


def attacker_of(
    task: GanTask,
    generator: nn.Module,
    discriminators: Sequence[nn.Module],
    attacks: Sequence[str],
    seeds: Seeds,
    device: torch.device,
) -> Attacker:
    """The attacker of a generator. `discriminators` are of the rounds in their order, and may be none.

    `seeds` decide on the synthetic images; networks are copied and stay as they are.

    Raises:
        ConfigError: an attack that this task does not know.
    """
    known = ON_PATIENTS if isinstance(task, PatientTask) else ON_SYNTHESIS
    if wrong := set(attacks) - set(known):
        raise ConfigError("evaluation.attacks", sorted(wrong), f"of {', '.join(known)}, for task {task.name}")
    target = _frozen(generator, device)
    if isinstance(task, PatientTask):
        score = (loss(task, target),) * len(attacks)
        return Attacker(tuple(attacks), score, loss_edges(task).repeat(len(attacks), 1), device)
    networks = [_frozen(network, device) for network in discriminators]
    return _on_synthesis(synthesis_of(task), target, networks, tuple(attacks), seeds, device)


def _on_synthesis(
    task: SynthesisTask,
    generator: nn.Module,
    networks: Sequence[nn.Module],
    attacks: tuple[str, ...],
    seeds: Seeds,
    device: torch.device,
) -> Attacker:
    references = draw_references(task, generator, seeds.child("references").generator(), device)
    fakes, labels = drawn(task, generator, _stand_ins_of(task), seeds.child("fakes").generator(), device)
    with torch.no_grad():
        scores: dict[str, Score] = {
            "discriminator": discriminator(networks, fakes, labels),
            "nearest": nearest(references),
            "density": density(references),
            "inversion": inversion(task, generator, references),
        }
    chosen = tuple(scores[name] for name in attacks)
    unseen = stand_ins(fakes, labels, seeds.child("pairs").generator())
    edges = [edges_of(column) for column in _scored(chosen, unseen, labels).T]
    return Attacker(attacks, chosen, torch.stack(edges) if edges else torch.empty(0, 0), device)


def _stand_ins_of(task: SynthesisTask) -> int:
    """How many, fewer of large images."""
    return max(min(_STAND_INS, _NUMBERS // math.prod(task.image_shape)), _LEAST_STAND_INS)


@torch.no_grad()
def _scored(score_of: Sequence[Score], images: Tensor, labels: Tensor) -> Tensor:
    columns = [score(images, labels).cpu().double() for score in score_of]
    return torch.stack(columns, dim=1) if columns else torch.empty(len(images), 0, dtype=torch.float64)


def _frozen(network: nn.Module, device: torch.device) -> nn.Module:
    return deepcopy(network).to(device).eval().requires_grad_(False)
