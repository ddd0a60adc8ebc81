"""How near an output is to its reference: masks by Dice, IoU and Hausdorff, images by PSNR, SSIM and error.

Each gives one value for each example, and MONAI or torchmetrics reckon it where they can.
"""

from typing import cast
from warnings import catch_warnings, simplefilter

import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.meaniou import compute_iou
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

AIR = -0.9
"""What lies below is background."""
LARGEST_PSNR = 60.0
"""Decibels that a PSNR is bounded to, and told as a share of: a score that leaves a site lies in [0, 1]."""


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, [n]; images [n, c, h, w] in [-1, 1], at most `LARGEST_PSNR`."""
    squares = (images.double() - references.double()).square().flatten(1).mean(1)
    return (10 * torch.log10(4 / squares.clamp_min(1e-12))).clamp(0, LARGEST_PSNR)


def psnr_share(images: Tensor, references: Tensor) -> Tensor:
    """The same as a share of `LARGEST_PSNR`."""
    return psnr(images, references) / LARGEST_PSNR


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Structural similarity [n], Wang et al. 2004 with a Gaussian window of 11 pixels; images in [-1, 1]."""
    found = structural_similarity_index_measure(
        images.float(), references.float(), data_range=2.0, reduction="none"
    )
    return cast(Tensor, found).double().reshape(len(images))


def ssim_map(images: Tensor, references: Tensor) -> Tensor:
    """The same around every pixel, [n, c, h, w]."""
    found = structural_similarity_index_measure(
        images.float(), references.float(), data_range=2.0, reduction="none", return_full_image=True
    )
    return cast(tuple[Tensor, Tensor], found)[1]


def squared_error(images: Tensor, references: Tensor) -> Tensor:
    """Mean squared error as a share of the range's square, [n]."""
    return (images.double() - references.double()).square().flatten(1).mean(1) / 4


def body_of(*images: Tensor) -> Tensor:
    """Where any of these registered images [n, c, h, w] shows more than air, bool [n, 1, h, w].

    An image that shows nothing at all is taken whole.
    """
    shown = torch.cat(images, dim=1).amax(dim=1, keepdim=True) > AIR
    return shown | ~shown.flatten(1).any(dim=1)[:, None, None, None]


def scores_in(body: Tensor, images: Tensor, references: Tensor) -> Tensor:
    """[n, 3] float64 in [0, 1]: PSNR as a share of `LARGEST_PSNR`, SSIM and mean absolute error.

    Of the pixels in `body` [n, 1, h, w] alone; images [n, 1, h, w] in [-1, 1].
    """
    inside = body.double().flatten(1)

    def mean(values: Tensor) -> Tensor:
        return (values.double().flatten(1) * inside).sum(1) / inside.sum(1)

    differences = images.double() - references.double()
    decibels = 10 * torch.log10(4 / mean(differences.square()).clamp_min(1e-12))
    alike = ssim_map(images, references)
    shares = (decibels.clamp(0, LARGEST_PSNR) / LARGEST_PSNR, mean(alike), mean(differences.abs()) / 2)
    return torch.stack(shares, dim=1)


def mask_scores(found: Tensor, reference: Tensor) -> Tensor:
    """[n, 3] float64 in [0, 1]: Dice, IoU, and the 95 % Hausdorff distance as a share of the diagonal.

    Masks are bool [n, 1, h, w]. Where both are empty they agree; where one is, the distance is the diagonal.
    """
    found, reference = found.float(), reference.float()
    some = [mask.flatten(1).any(1) for mask in (found, reference)]
    both, empty = some[0] & some[1], ~(some[0] | some[1])
    overlap = [compute_dice(found, reference).flatten(), compute_iou(found, reference).flatten()]
    agreed = [torch.where(empty, 1.0, value.double().nan_to_num(0.0)) for value in overlap]
    far = (~empty).double()
    if both.any():
        far[both] = _distance(found[both], reference[both])
    return torch.stack([*agreed, far], dim=1)


def _distance(found: Tensor, reference: Tensor) -> Tensor:
    """The 95 % Hausdorff distance of masks of which none is empty, as a share of the diagonal, [n]."""
    diagonal = float(torch.tensor(found.shape[2:]).double().norm())
    with catch_warnings():  # MONAI calls an argument of its own that it has deprecated
        simplefilter("ignore", FutureWarning)
        distance = compute_hausdorff_distance(found, reference, include_background=True, percentile=95)
    share: Tensor = (distance.flatten().double() / diagonal).clamp(0, 1)
    return share
