"""What synthetic images add to few real ones: a classifier with them and without, over several seeds.

Both are trained on the same patients, a share of those that a site trains on, for as many steps, with classic
augmentation (small rotations, shifts and zooms). In batches of the one that gets synthetic images too, every
second image is a synthetic one, of the class of a real one in the batch: so that a gain is one of images, and
not of another balance of classes. Scored on held-out patients.

The generator may have learned from more patients than a share holds: the gain is that of a small hospital
that is given a release. Private to the site, as all of `report.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan, pi, sqrt
from statistics import fmean, stdev

import torch
from scipy.stats import t as student
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from medgan_core.data.source import SiteData
from medgan_core.errors import DataError
from medgan_core.evaluate.utility import (
    BATCH,
    LEARNING_RATE,
    Scores,
    class_scores,
    make_classifier,
    score,
    seen,
)

SHARES = (0.1, 0.25, 1.0)
SEEDS = 5
STEPS = 400
_DEGREES, _SHIFT, _ZOOM = 10.0, 0.08, 0.1
_FIGURES = ("balanced_accuracy", "auc")


@dataclass(frozen=True)
class Gain:
    """Means over seeds of a figure without and with synthetic images, and of their difference.

    `low` and `high` bound the 95 % interval of the mean difference, by Student's t over seeds: it tells of
    the choice of patients and of the classifier's luck, not of other generators or other held-out patients.
    nan where a figure is, or for a single seed.
    """

    without: float
    with_synthetic: float
    gain: float
    low: float
    high: float


def gains(
    training: SiteData,
    held_out: SiteData,
    images: Tensor,
    labels: Tensor,
    *,
    share: float,
    seeds: Sequence[int] = range(SEEDS),
    steps: int = STEPS,
) -> Mapping[str, Gain]:
    """The gain in balanced accuracy and AUC by synthetic `images` [s, c, h, w] with `labels` [s].

    Each seed chooses another `share` of the training patients. Raises DataError where a class of the real
    images has no synthetic one.
    """
    found: dict[str, list[tuple[float, float]]] = {figure: [] for figure in _FIGURES}
    for seed in seeds:
        few = some_patients(training, share, seed)
        without, given = (
            _scored(augmented_classifier(few, pool, seed=seed, steps=steps), held_out)
            for pool in (None, (images, labels))
        )
        for figure, pairs in found.items():
            pairs.append((getattr(without, figure), getattr(given, figure)))
    return {figure: gain_of(pairs) for figure, pairs in found.items()}


def gain_of(pairs: Sequence[tuple[float, float]]) -> Gain:
    """The gain in pairs (without, with), one of each seed."""
    without, given = (fmean(part) for part in zip(*pairs, strict=True))
    differences = [after - before for before, after in pairs]
    mean, half = fmean(differences), nan
    if len(pairs) > 1 and isfinite(mean):  # a figure is nan where the held-out patients lack a class
        half = float(student.ppf(0.975, len(pairs) - 1)) * stdev(differences) / sqrt(len(pairs))
    return Gain(without, given, mean, mean - half, mean + half)


def some_patients(data: SiteData, share: float, seed: int) -> SiteData:
    """A share of the patients with all their images, at least one."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data.of_patients(sorted(order[: max(1, round(share * len(data)))].tolist()))


def augmented_classifier(
    real: SiteData, synthetic: tuple[Tensor, Tensor] | None, *, seed: int, steps: int = STEPS
) -> nn.Module:
    """The classifier of `utility.py`, on real images and on synthetic ones where given, both varied.

    `seed` decides on all that is random; the global generators are left as they were.
    """
    classes, images = len(real.card.classes), seen(real.images)
    pool = None if synthetic is None else _Pool(seen(synthetic[0]), synthetic[1], real.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = make_classifier(images.shape[1], classes)
        optimizer = torch.optim.Adam(classifier.parameters(), lr=LEARNING_RATE)
        for _ in range(steps):
            chosen = torch.randint(len(images), (BATCH if pool is None else BATCH // 2,))
            batch, labels = images[chosen], real.labels[chosen]
            if pool is not None:
                batch, labels = torch.cat([batch, pool.like(labels)]), labels.repeat(2)
            loss = cross_entropy(classifier(varied(batch)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return classifier.eval()


def varied(images: Tensor) -> Tensor:
    """Each image [n, c, h, w] rotated, shifted and zoomed a little, by torch's generator; borders go on."""
    count = len(images)
    angle, zoom = ((torch.rand(count) * 2 - 1) * most for most in (_DEGREES * pi / 180, _ZOOM))
    cosine, sine = angle.cos() * (1 + zoom), angle.sin() * (1 + zoom)
    shift = (torch.rand(count, 2) * 2 - 1) * 2 * _SHIFT
    turned = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1).unflatten(1, (2, 3))
    grid = affine_grid(turned, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


class _Pool:
    """Synthetic images by class, from which those of wanted classes are drawn."""

    def __init__(self, images: Tensor, labels: Tensor, wanted: Tensor) -> None:
        self.images, self.counts = images[labels.argsort(stable=True)], labels.bincount(minlength=1)
        missing = [label for label in wanted.unique().tolist() if not (labels == label).any()]
        if missing:
            raise DataError(
                f"no synthetic image of class {missing}: draw some of every class of the real ones"
            )
        self.starts = self.counts.cumsum(0) - self.counts

    def like(self, labels: Tensor) -> Tensor:
        """One image of each of these classes."""
        within = (torch.rand(len(labels)) * self.counts[labels]).long()
        return self.images[self.starts[labels] + within]


def _scored(classifier: nn.Module, held_out: SiteData) -> Scores:
    return score(class_scores(classifier, held_out.images), held_out.labels)
