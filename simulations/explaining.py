"""The second picture of a run on public images: which parts of an image speak for what is made of it.

For the probability that an image is abnormal, and for the classifier that augmentation is judged by.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from medgan_core.config import Study
from medgan_core.data.source import Site, SiteData
from medgan_core.evaluate.augmentation import augmented_classifier, some_patients
from medgan_core.evaluate.explain import occlusion_maps
from medgan_core.evaluate.utility import class_scores
from medgan_core.gan.task import GanTask, Panels, PatientTask, synthesis_of
from medgan_core.messages import Arrays
from medgan_core.tensors import load
from server.finish import synthetic
from simulations.hospitals import pooled

FEW = 0.1
"""The share of real patients that a run judges augmentation by; the benchmark of tasks takes others too."""
_OF_EACH = 3


def explained(
    study: Study, sites: Sequence[Site], task: GanTask, weights: Arrays
) -> tuple[Panels, tuple[str, ...]] | None:
    """The columns and the names of the rows; None for other tasks, and where images are not public."""
    card = sites[0].training.card
    if not card.public or study.task not in ("anomaly", "augmentation"):
        return None
    training, held_out = pooled(sites, card)
    images, labels = some_of_each(held_out)
    if isinstance(task, PatientTask):
        panels, score = _of_anomalies(task, weights, images)
    else:
        panels, score = (("image", images),), _of_classifier(study, task, weights, training)
    panels = (*panels, ("speaks for it", occlusion_maps(score, images)))
    return panels, tuple(card.classes[label] for label in labels.tolist())


def some_of_each(data: SiteData) -> tuple[Tensor, Tensor]:
    """Images of a few patients of every class, with their labels."""
    chosen: list[int] = []
    for label in range(len(data.card.classes)):
        found = (data.labels == label).nonzero()[:, 0].tolist()
        first = {int(data.owner[image]): image for image in reversed(found)}
        chosen += sorted(first.values())[:_OF_EACH]
    return data.images[chosen], data.labels[chosen]


def _of_anomalies(
    task: PatientTask, weights: Arrays, images: Tensor
) -> tuple[Panels, Callable[[Tensor], Tensor]]:
    generator = task.make_generator()
    load(generator, weights)
    generator.eval()
    with torch.no_grad():
        panels = task.panels(generator, images)
    return panels, lambda part: task.scores(generator, part)[:, 0].logit(eps=1e-12)


def _of_classifier(
    study: Study, task: GanTask, weights: Arrays, training: SiteData
) -> Callable[[Tensor], Tensor]:
    """The log-odds of the last class by a classifier on few real images and on synthetic ones."""
    pool = synthetic(study, synthesis_of(task), weights)
    classifier = augmented_classifier(some_patients(training, FEW, 0), pool, seed=0)
    return lambda part: class_scores(classifier, part)[:, -1].logit(eps=1e-12)
