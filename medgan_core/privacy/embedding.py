"""The one-shot private query: one noisy mean embedding per class, released once by each site.

Harder, Adamczewski, Park 2021, "DP-MERF", https://arxiv.org/abs/2002.11603: random Fourier features (Rahimi
and Recht 2007), here by patient, of the pixels and of Gabor magnitudes, with noisy counts in the same vector.
A generator that matches the released embedding costs no further privacy.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from medgan_core.config import OneShotConfig
from medgan_core.gabor import gabor_magnitudes
from medgan_core.privacy.grid import to_grid
from medgan_core.seeds import Seeds

_LARGEST_SIDE = 32
_SMALLEST_COUNT = 1.0
_LONGEST = 5.0


@dataclass(frozen=True, eq=False)
class Features:
    """φ: images [n, c, h, w] in [-1, 1] to [n, d] of Euclidean norm 1, fixed and independent of any data.

    One block of cosines and sines for each bandwidth, of the pixels (`frequencies`) and of Gabor magnitudes
    (`gabor_frequencies`); a bandwidth is the variance of the kernel per pixel of images in [0, 1], or per
    magnitude. Images of more than 32 pixels a side are averaged down first. With `apart` each channel has
    magnitudes of its own: modalities are no colours, and their mean shows neither.
    """

    frequencies: tuple[Tensor, ...]
    gabor_frequencies: tuple[Tensor, ...] = ()
    apart: bool = False

    @classmethod
    def of(
        cls, asked: OneShotConfig, image_shape: tuple[int, int, int], seeds: Seeds, *, apart: bool = False
    ) -> "Features":
        """The features of a study: the same at every site, from its public seed."""
        channels, side, _ = image_shape
        side = min(side, _LARGEST_SIDE)
        random = seeds.child("features").generator()

        def blocks(size: int, bandwidths: tuple[float, ...]) -> tuple[Tensor, ...]:
            return tuple(
                torch.randn(size, asked.frequencies, generator=random) / math.sqrt(bandwidth * size)
                for bandwidth in bandwidths
            )

        shown = torch.zeros(1, channels if apart else 1, side, side)
        pixels = blocks(channels * side**2, asked.bandwidths)
        return cls(pixels, blocks(_magnitudes(shown, apart).shape[1], asked.gabor_bandwidths), apart)

    def to(self, device: torch.device) -> "Features":
        """The same features, for images on this device."""
        blocks, gabor = self.frequencies, self.gabor_frequencies
        return Features(tuple(b.to(device) for b in blocks), tuple(b.to(device) for b in gabor), self.apart)

    @property
    def size(self) -> int:
        """d, the number of features."""
        return sum(2 * block.shape[1] for block in self.frequencies + self.gabor_frequencies)

    def __call__(self, images: Tensor) -> Tensor:
        """φ of each image, [n, d]; gradients flow."""
        if images.shape[-1] > _LARGEST_SIDE:
            images = functional.adaptive_avg_pool2d(images, _LARGEST_SIDE)
        images = (images + 1) / 2
        pixels = images.flatten(1)
        angles = [pixels @ block for block in self.frequencies]
        if self.gabor_frequencies:
            magnitudes = _magnitudes(images, self.apart)
            angles += [magnitudes @ block for block in self.gabor_frequencies]
        joined = torch.cat(angles, dim=1)
        return torch.cat([joined.cos(), joined.sin()], dim=1) / math.sqrt(joined.shape[1])


def _magnitudes(images: Tensor, apart: bool) -> Tensor:
    """Gabor magnitudes of the mean of all channels, or of every channel, [n, g]."""
    if not apart:
        return gabor_magnitudes(images)
    each = gabor_magnitudes(images.flatten(0, 1)[:, None])
    return each.reshape(len(images), -1)


def patient_sum(features: Tensor, labels: Tensor, owner: Tensor, classes: int, count_weight: float) -> Tensor:
    """Σ over patients of the mean over their images of [φ(x), c] ⊗ onehot(y) / √(1 + c²): [classes, d + 1].

    `features` [n, d] are brought to a norm of at most 1 image by image, and images with a value that is not
    finite count as absent, so one patient changes the sum by at most 1.
    """
    terms, labels = patient_terms(features, labels, owner, count_weight)
    return torch.zeros(classes, terms.shape[1], dtype=torch.float64).index_add_(0, labels, terms)


def patient_grid_sum(
    features: Tensor, labels: Tensor, owner: Tensor, classes: int, count_weight: float
) -> Tensor:
    """The same sum on the grid of secure sums, int64 [classes, d + 1]: each image's term is rounded alone."""
    terms, labels = patient_terms(features, labels, owner, count_weight)
    return torch.zeros(classes, terms.shape[1], dtype=torch.int64).index_add_(0, labels, to_grid(terms))


def patient_terms(
    features: Tensor, labels: Tensor, owner: Tensor, count_weight: float
) -> tuple[Tensor, Tensor]:
    """What each image adds to `patient_sum`, float64 [n, d + 1], and to which class, [n]."""
    finite = torch.isfinite(features).all(dim=1)
    features, labels, owner = features[finite].double(), labels[finite], owner[finite]
    features = features / features.norm(dim=1, keepdim=True).clamp_min(1.0)
    joined = torch.cat([features, torch.full((len(features), 1), count_weight, dtype=torch.float64)], dim=1)
    images = owner.bincount().clamp_min(1).double()
    return joined / (images[owner][:, None] * math.sqrt(1 + count_weight**2)), labels


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the noisy sums say: `mean` [classes, d], the embedding of each class, and `counts` [classes]."""

    mean: Tensor
    counts: Tensor

    @classmethod
    def read(cls, noisy_sum: Tensor, count_weight: float) -> "Embedding":
        """Divide noisy sums by noisy counts, which a public constant bounds from below."""
        scaled = noisy_sum.double() * math.sqrt(1 + count_weight**2)
        counts = (scaled[:, -1] / count_weight).clamp_min(_SMALLEST_COUNT)
        return cls((scaled[:, :-1] / counts[:, None]).float(), counts.float())

    def mismatch(self, features: Tensor, labels: Tensor) -> Tensor:
        """Squared maximum mean discrepancy of fakes to the embedding, mean over classes, up to a constant.

        Unbiased in the fakes (Gretton et al. 2012, JMLR 13, eq. 3): the biased estimator rewards mode
        collapse. `features` [n, d] of the fakes, `labels` [n]; classes with fewer than two fakes are left
        out, and where no other is there the mismatch is 0. A class that nobody has comes with noise over a
        count of next to nothing: no mean is longer than 1, so one of 5 and more counts the less, the longer.
        """
        hot = functional.one_hot(labels, len(self.mean)).to(features.dtype)
        count = hot.sum(0)
        used = count >= 2
        total = (hot.T @ features)[used]
        squares = (hot.T @ features.square().sum(1))[used]
        number = count[used]
        itself = (total.square().sum(1) - squares) / (number * (number - 1))
        towards = (total * self.mean[used]).sum(1) / number
        weight = (_LONGEST / self.mean[used].norm(dim=1)).clamp_max(1.0)
        apart: Tensor = weight * (itself - 2 * towards)
        return apart.sum() / max(len(number), 1)
