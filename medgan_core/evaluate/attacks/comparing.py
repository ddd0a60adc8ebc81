"""Attacks that need images of the generator alone: how near are they, and how dense, around a real one?"""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medgan_core.evaluate.attacks.references import References
from medgan_core.evaluate.attacks.views import Score, less_mirrored, small

COMPONENTS, BANDWIDTH = 128, 0.15
_SHRINKAGE, _LEAST = 1e-3, 1e-12
_DECOMPOSED = 1000


def nearest(references: References) -> Score:
    """How much nearer the nearest synthetic image is than the median one: the logarithm of their ratio.

    The attack of GAN-leaks on what a generator draws (Chen et al. 2020, https://arxiv.org/abs/1909.03935,
    section 4.2), on a scale of the image itself.
    """

    def score(images: Tensor, labels: Tensor) -> Tensor:
        distances = references.distances(small(images), labels)
        return (distances.median(dim=1).values / distances.min(dim=1).values).log()

    return less_mirrored(score)


def density(references: References) -> Score:
    """How dense synthetic images are around an image, for how far it is from them on the whole.

    Monte-Carlo integration with a kernel (Hilprecht et al. 2019,
    https://doi.org/10.2478/popets-2019-0067), as a ratio (DOMIAS: van Breugel et al. 2023,
    https://arxiv.org/abs/2302.12580). There is no public set to learn the reference density from; what
    stands for it is the image's own median distance, which the width of the kernel is in proportion to. The
    logarithm of the density is told as that of the one distance at which all would have to be to make it.
    Distances are in principal components of a label's synthetic images, in units of their deviations, so
    that details count.
    """
    frames = [_whitening(points) for points in references.points]
    white = torch.stack(
        [(p - mean) @ axes for p, (mean, axes) in zip(references.points, frames, strict=True)]
    )
    within = References(white, references.latents)

    def score(images: Tensor, labels: Tensor) -> Tensor:
        points = small(images)
        turned = points.new_empty(len(points), white.shape[2])
        for label in labels.unique().tolist():
            mean, axes = frames[label]
            turned[labels == label] = (points[labels == label] - mean) @ axes
        distances = within.distances(turned, labels)
        width = BANDWIDTH * distances.median(dim=1, keepdim=True).values
        dense = torch.logsumexp(-(distances / width).square() / 2, dim=1) - math.log(distances.shape[1])
        return -(-2 * BANDWIDTH**2 * dense).clamp_min(1e-12).log() / 2

    return less_mirrored(score)


def _whitening(points: Tensor) -> tuple[Tensor, Tensor]:
    """The mean [k] of points [m, k], and their first principal components in units of deviation, [k, j].

    By the inner products of at most 1,000 points: those of all pairs of pixels are too many to decompose.
    """
    mean = points.mean(dim=0)
    some = (points - mean)[:_DECOMPOSED]
    values, vectors = torch.linalg.eigh(some @ some.T / len(some))
    values, vectors = values.flip(0)[:COMPONENTS].clamp_min(0), vectors.flip(1)[:, :COMPONENTS]
    axes = normalize(some.T @ vectors, dim=0)
    return mean, axes / (values + _SHRINKAGE * values.sum() + _LEAST).sqrt()
