"""What the person of a site sees of a generator: usefulness, likeness and copying, on the site's real images.

All of it is private to the site: it is computed from real patients without noise. It may leave only where the
site's person has declared the data public (`Card.public`); what may leave otherwise is in `histogram.py`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from medgan_core.data.source import SiteData
from medgan_core.device import CPU
from medgan_core.evaluate.attacks.copying import copying
from medgan_core.evaluate.features import shuffled_by_patient
from medgan_core.evaluate.fidelity import Fidelity, fidelity
from medgan_core.evaluate.memorize import AT_MOST, Memorization, memorization
from medgan_core.evaluate.structure import structure
from medgan_core.evaluate.utility import Scores, class_scores, score, train_classifier
from medgan_core.messages import float_to_json


@dataclass(frozen=True)
class SiteReport:
    """Figures of one generator at one site. Both `Scores` are on the real images of held-out patients.

    `structure` is what holds several channels together, for tasks that have such a figure; `copying` the
    shares of patients with a near-duplicate (`attacks.copying.Copying`).
    """

    train_on_real: Scores
    train_on_synthetic: Scores
    fidelity: Fidelity
    memorization: Memorization
    structure: Mapping[str, float] = field(default_factory=dict)
    copying: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A dict of dicts for JSON; nan and infinity as the strings "nan" and "inf", which `float` reads."""
        return {
            name: {figure: float_to_json(value) for figure, value in figures.items()}
            for name, figures in asdict(self).items()
            if figures
        }


def site_report(
    training: SiteData,
    held_out: SiteData,
    synthetic_images: Tensor,
    synthetic_labels: Tensor,
    *,
    seed: int,
    task: str = "synthesis",
    device: torch.device = CPU,
) -> SiteReport:
    """Judge synthetic images [s, c, h, w] in [-1, 1] with labels [s] beside a site's real ones.

    Fidelity compares with the training patients, which are more; copying them is for `memorization` to see.
    Where there are too few images for a figure it is nan. Synthetic images of which any value is not finite
    have no figures. The same arguments and `seed` give the same report. Classifiers are trained on `device`.
    """
    if not synthetic_images.isfinite().all():
        synthetic_images, synthetic_labels = synthetic_images[:0], synthetic_labels[:0]
    generator = torch.Generator().manual_seed(seed)
    return SiteReport(
        trained_scores(training.images, training.labels, held_out, seed=seed, device=device),
        trained_scores(synthetic_images, synthetic_labels, held_out, seed=seed, device=device),
        fidelity(
            training.images,
            training.owner,
            training.labels,
            synthetic_images,
            synthetic_labels,
            generator=generator,
        ),
        memorization(
            training.images,
            training.owner,
            held_out.images,
            held_out.owner,
            synthetic_images,
            generator=generator,
        ),
        structure(task, training.images, training.owner, synthetic_images, seed=seed),
        _copies(training, held_out, synthetic_images, generator),
    )


def _copies(
    training: SiteData, held_out: SiteData, synthetic: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """Shares of patients with a near-duplicate, of at most 2,000 images of each kind."""
    seen, unseen = (shuffled_by_patient(data.owner, generator)[:AT_MOST] for data in (training, held_out))
    drawn = torch.randperm(len(synthetic), generator=generator)[:AT_MOST]
    found = copying(
        training.images[seen],
        training.owner[seen],
        held_out.images[unseen],
        held_out.owner[unseen],
        synthetic[drawn],
    )
    return {name: share for name, share in asdict(found).items() if name != "closest"}


def trained_scores(
    images: Tensor, labels: Tensor, held_out: SiteData, *, seed: int, device: torch.device = CPU
) -> Scores:
    """Train the classifier on these images on `device`, score it on real held-out ones.

    Nan if either has none, or where there is one class alone: nothing is to be told apart.
    """
    classes = len(held_out.card.classes)
    if len(images) == 0 or len(held_out.images) == 0 or classes < 2:
        return Scores()
    classifier = train_classifier(images.to(device), labels.to(device), classes, seed=seed)
    return score(class_scores(classifier, held_out.images), held_out.labels)
