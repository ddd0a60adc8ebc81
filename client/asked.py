"""What a round of a site is a function of, what it gives, and the patients of a step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from medgan_core.config import Study
from medgan_core.data.sampling import PatientImages
from medgan_core.data.source import Site
from medgan_core.data.transforms import Augmentation, augmentation
from medgan_core.gan.task import GanTask, PatientTask
from medgan_core.messages import Groups, Request
from medgan_core.privacy.noise import SecretRandom
from medgan_core.privacy.noise_watch import NoiseWatch
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.seeds import Seeds


@dataclass(frozen=True, eq=False)
class RoundResult:
    """What leaves a site (`groups`, `metrics`) and what stays there, sealed with it (`local`)."""

    groups: Groups
    metrics: Mapping[str, float] = field(default_factory=dict)
    local: Groups = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Asked:
    """All that a round is a function of, but for what the site kept; `watch` sees some of its noise."""

    study: Study
    task: GanTask
    plan: PrivacyPlan
    site: Site
    request: Request
    seeds: Seeds
    random: SecretRandom
    device: torch.device
    watch: NoiseWatch


def patient_sampler(asked: Asked) -> Callable[[], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Images, labels and owners of a fresh Poisson sample at each call, augmented where the study asks.

    They are moved to the device; the site's data stay where they are. An image of several views has several
    rows, of the same owner (augmentation multiplicity, De et al. 2022).
    """
    patients, count = PatientImages(asked.site.training), len(asked.site.training)
    augment = augmentation(asked.study.data)
    prepare = asked.task.prepare if isinstance(asked.task, PatientTask) else None
    steps = [step for step in (augment, prepare) if step is not None]

    def sample() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images, labels, owner = patients.sample(asked.random.uniform(count), asked.plan.sampling_rate)
        if augment is not None:
            several = asked.study.data.views
            images, labels, owner = (part.repeat_interleave(several, 0) for part in (images, labels, owner))
        if steps and len(images):
            images = _varied(images, owner, steps, asked.random)
        return images.to(asked.device), labels.to(asked.device), owner.to(asked.device)

    return sample


def _varied(
    images: torch.Tensor, owner: torch.Tensor, steps: Sequence[Augmentation], random: SecretRandom
) -> torch.Tensor:
    """Rows of images, by a secret seed for each patient: owners 0, 1, … lie together.

    Were there one stream for all, public or of a seed of 32 bits, a patient's presence would shift the views
    of the others, and one patient would change more than one clipped gradient.
    """
    counts = owner.bincount().tolist()
    rows = []
    for part, coin in zip(images.split(counts), random.uniform(len(counts)).tolist(), strict=True):
        stream = torch.Generator().manual_seed(int(coin * 2**32))
        for step in steps:
            part = step(part, stream)
        rows.append(part)
    return torch.cat(rows)
