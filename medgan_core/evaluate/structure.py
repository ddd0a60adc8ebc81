"""What holds an image of several channels together: modalities of one patient, slices of one volume.

Each figure stands beside the same of real images. They are functions of single patients without noise and
stay at the site unless its person has declared the data public.
"""

from collections.abc import Mapping
from itertools import combinations
from math import nan

import torch
from monai.metrics.regression import compute_ms_ssim
from torch import Tensor
from torchmetrics.functional.clustering import mutual_info_score

from medgan_core.gan.scores import AIR, body_of

AT_MOST = 200
BINS = 8
PAIRS = 64
_LEAST_NORM = 1e-6
MSSIM_KERNEL, MSSIM_WEIGHTS, MSSIM_LEAST_SIDE = 5, (0.3, 0.4, 0.3), 17


def structure(task: str, real: Tensor, owner: Tensor, synthetic: Tensor, *, seed: int) -> Mapping[str, float]:
    """The figures of a task, synthetic and real; {} for one that has none.

    Images [n, c, h, w] in [-1, 1], of each side at most 200; `owner` [n]: the patient of each real one, since
    pairs are of different patients. Where there are too few images a figure is nan.
    """
    random = torch.Generator().manual_seed(seed)
    chosen, drawn = (torch.randperm(len(each), generator=random)[:AT_MOST] for each in (real, synthetic))
    real, owner, synthetic = real[chosen], owner[chosen], synthetic[drawn]
    if task == "multimodal":
        apart = synthetic.clone()
        apart[:, 1:] = synthetic[:, 1:].roll(1, dims=0)
        shown = {"synthetic": synthetic, "real": real, "shuffled": apart}
        return {f"mutual_information_{name}": mutual_information(images) for name, images in shown.items()}
    if task == "volume":
        return {
            "slice_correlation_synthetic": slice_correlation(synthetic),
            "slice_correlation_real": slice_correlation(real),
            "msssim_3d_synthetic": likeness(synthetic, torch.arange(len(synthetic)), random),
            "msssim_3d_real": likeness(real, owner, random),
        }
    return {}


def mutual_information(images: Tensor) -> float:
    """Mean mutual information in nats of two channels within the body, over images and pairs; nan for none.

    Of intensities in 8 equal bins, since bodies may have but a few hundred pixels: how much a pixel of one
    modality says of the same place in another. 0 for channels that know nothing of each other, but for the
    bias of few pixels.
    """
    bins = ((images.clamp(-1, 1) + 1) / 2 * BINS).long().clamp_max(BINS - 1)
    with torch.sparse.check_sparse_tensor_invariants():  # torchmetrics leaves it open, and torch warns
        values = [
            mutual_info_score(image[a][inside[0]], image[b][inside[0]])
            for image, inside in zip(bins, body_of(images), strict=True)
            for a, b in combinations(range(images.shape[1]), 2)
        ]
    return float(torch.stack(values).double().mean()) if values else nan


def slice_correlation(volumes: Tensor) -> float:
    """Mean Pearson correlation of neighbouring slices of volumes [n, d, h, w]; nan without any.

    Of the pixels that show the body in either slice; slices of one value there say nothing and are left out.
    """
    shown = volumes > AIR
    body = (shown[:, 1:] | shown[:, :-1]).flatten(2).double()
    one, other = (_centred(part.double().flatten(2), body) for part in (volumes[:, :-1], volumes[:, 1:]))
    norms = one.norm(dim=2) * other.norm(dim=2)
    told = norms > _LEAST_NORM
    return float(((one * other).sum(2)[told] / norms[told]).mean()) if bool(told.any()) else nan


def _centred(slices: Tensor, body: Tensor) -> Tensor:
    """Slices less their mean within the body, and 0 outside of it."""
    means = (slices * body).sum(2, keepdim=True) / body.sum(2, keepdim=True).clamp_min(1)
    return (slices - means) * body


def likeness(volumes: Tensor, owner: Tensor, random: torch.Generator) -> float:
    """Mean 3-D MS-SSIM of pairs of volumes [n, d, h, w] of different owners [n]; nan without a pair.

    At most 64 pairs, drawn by `random`. Three scales as in `fidelity.diversity`; nan for fewer than 17 slices
    or pixels a side. Synthetic well above real is a lack of diversity.
    """
    first, second = torch.combinations(torch.arange(len(volumes)), 2).T
    apart = (owner[first] != owner[second]).nonzero().flatten()
    apart = apart[torch.randperm(len(apart), generator=random)[:PAIRS]]
    if not len(apart) or min(volumes.shape[1:]) < MSSIM_LEAST_SIDE:
        return nan
    one, other = ((volumes[index[apart]][:, None].float() + 1) / 2 for index in (first, second))
    alike = compute_ms_ssim(
        one, other, spatial_dims=3, data_range=1.0, kernel_size=MSSIM_KERNEL, weights=MSSIM_WEIGHTS
    )
    return float(alike.mean())
