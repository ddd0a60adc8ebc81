"""Images that are drawn for a check, and what they show by themselves: no patient is needed for it.

A generator that lost its variety draws images of a class that hardly differ; one that repeats a few draws
near-duplicates. Differences are root mean squares over pixels, as shares of the range of grey levels.
"""

from collections.abc import Iterator
from math import nan

import torch
from torch import Tensor, nn

from medgan_core.gan.task import SynthesisTask, synthesis_of
from medgan_core.release.bundle import Release
from medgan_core.release.check.policy import Policy
from medgan_core.release.check.result import SampleFigures
from medgan_core.seeds import Seeds

OF_A_CLASS, AT_MOST, SEED = 64, 640, 0
_BATCH = 64
_ONE_LEVEL = 1 / 127.5


def drawn(release: Release) -> tuple[Tensor, Tensor] | None:
    """Images [n, c, h, w] and labels [n], equally many of each class and the same at every call.

    None of a network that works on patients' images.
    """
    task = release.facts.make_task()
    if not isinstance(task, SynthesisTask):
        return None
    each = max(2, min(OF_A_CLASS, AT_MOST // len(task.classes)))
    labels = torch.arange(len(task.classes)).repeat_interleave(each)
    return _draw(task, release.generator(), labels), labels


def sample_figures(release: Release, policy: Policy) -> SampleFigures | None:
    """What the drawn images show; None of a network that draws none by itself."""
    made = drawn(release)
    return None if made is None else figures_of(release, *made, policy)


def figures_of(release: Release, images: Tensor, labels: Tensor, policy: Policy) -> SampleFigures:
    """The figures of images that `drawn` gave for this release."""
    finite = bool(images.isfinite().all())
    classes = range(len(release.facts.classes))
    apart = [differences(images[labels == label]) for label in classes]
    nearest = torch.cat([near.min(dim=1).values for near in apart])
    again = _draw(synthesis_of(release.facts.make_task()), release.generator(), labels[:_BATCH])
    spread = (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))) if finite else torch.tensor([nan])
    return SampleFigures(
        images=int((labels == 0).sum()),
        finite=finite,
        lowest=float(images.min()),
        highest=float(images.max()),
        constant=_share(spread < _ONE_LEVEL) if finite else nan,
        difference=tuple(_median(near) if finite else nan for near in apart),
        duplicates=_share(nearest < policy.duplicate_difference) if finite else nan,
        repeats=bool(torch.equal(again, images[:_BATCH])),
    )


def differences(images: Tensor) -> Tensor:
    """Root mean square difference of each two images [n, n], of [0, 1]; infinite from an image to itself."""
    flat = images.flatten(1).double()
    apart: Tensor = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist") / (
        2 * flat.shape[1] ** 0.5
    )
    apart.fill_diagonal_(torch.inf)
    return apart


@torch.no_grad()
def _draw(task: SynthesisTask, generator: nn.Module, labels: Tensor) -> Tensor:
    random = Seeds(SEED).child("release check").generator()
    return torch.cat(list(_batches(task, generator, labels, random)))


def _batches(
    task: SynthesisTask, generator: nn.Module, labels: Tensor, random: torch.Generator
) -> Iterator[Tensor]:
    for part in labels.split(_BATCH):
        yield task.sample(generator, part, random)


def _median(apart: Tensor) -> float:
    return float(apart[apart.isfinite()].median())


def _share(of: Tensor) -> float:
    return round(float(of.double().mean()), 6)
