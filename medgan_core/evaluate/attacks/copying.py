"""Are synthetic images near-duplicates of patients? For a site's own eyes, or of public images.

Found by a perceptual hash (the low frequencies of a cosine transform, each above their median or not: Zauner
2010, "Implementation and Benchmarking of Perceptual Image Hash Functions") and by the correlation of pixels.
A share alone says little, since images of one kind are alike: beside each stands the same share of held-out
patients. The features of `evaluate.features` forget where something is, and miss copies that a person sees.
"""

from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from scipy.fft import dctn
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from medgan_core.evaluate.attacks.views import small

BITS, NEAR_BITS = 64, 6
NEAR_SHARE = 0.01
_SIDE, _LOW = 32, 9


@dataclass(frozen=True)
class Copying:
    """Shares of patients with a near-duplicate among the synthetic images, in [0, 1]; nan without any.

    By hash: at most 6 of 64 bits differ. By pixels: correlated with a synthetic image more than all but 1 of
    100 held-out *images* are, so that `held_out_by_pixels` is about .01. `closest` [k] are the positions of
    the training image and the synthetic image in the k nearest pairs, nearest first, to be looked at.
    """

    training_by_hash: float
    held_out_by_hash: float
    training_by_pixels: float
    held_out_by_pixels: float
    closest: tuple[tuple[int, int], ...]


def copying(
    training: Tensor,
    training_owner: Tensor,
    held_out: Tensor,
    held_out_owner: Tensor,
    synthetic: Tensor,
    *,
    pairs: int = 8,
) -> Copying:
    """Near-duplicates of `synthetic` among training and held-out patients; a patient counts once.

    Images [n, c, h, w] in [-1, 1], owners [n] int64. A function of its arguments alone.
    """
    if not (len(training) and len(held_out) and len(synthetic)):
        return Copying(nan, nan, nan, nan, ())
    alike, partner = _correlation(training, synthetic)
    others, _ = _correlation(held_out, synthetic)
    limit = torch.quantile(others, 1 - NEAR_SHARE)
    hashes = perceptual_hash(synthetic)
    by_hash = [_bits_apart(perceptual_hash(images), hashes) <= NEAR_BITS for images in (training, held_out)]
    first = alike.argsort(descending=True, stable=True)[:pairs].tolist()
    return Copying(
        _patients(by_hash[0], training_owner),
        _patients(by_hash[1], held_out_owner),
        _patients(alike > limit, training_owner),
        _patients(others > limit, held_out_owner),
        tuple((at, int(partner[at])) for at in first),
    )


def _correlation(images: Tensor, synthetic: Tensor) -> tuple[Tensor, Tensor]:
    """The largest correlation of each image with a synthetic one, and that one's position, [n] each."""
    real, made = (normalize(p - p.mean(dim=1, keepdim=True)) for p in (small(images), small(synthetic)))
    found = (real @ made.T).max(dim=1)
    return found.values, found.indices


def perceptual_hash(images: Tensor) -> Tensor:
    """64 bits of each image, bool [n, 64]: which of its lowest frequencies are above their median."""
    grey = adaptive_avg_pool2d(images.float().mean(dim=1, keepdim=True), _SIDE)[:, 0]
    low = dctn(grey.cpu().double().numpy(), axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW]
    kept = np.ascontiguousarray(low.reshape(len(grey), -1)[:, 1 : BITS + 1])
    return torch.from_numpy(kept > np.median(kept, axis=1, keepdims=True))


def _bits_apart(hashes: Tensor, others: Tensor) -> Tensor:
    """How many bits each hash is from the nearest of the others, [n]."""
    signs, other_signs = (2 * each.float() - 1 for each in (hashes, others))
    return (BITS - (signs @ other_signs.T).max(dim=1).values) / 2


def _patients(found: Tensor, owner: Tensor) -> float:
    """The share of patients of whom any image was found."""
    known = owner.unique()
    return float(torch.isin(known, owner[found]).double().mean())
