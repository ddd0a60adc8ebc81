"""Do synthetic images look like the real ones? Distances of features, beside the same between real halves.

A distance alone says little: it depends on features and numbers of images. Each is therefore also given as
its ratio to the real-real floor, between two halves of the real patients with equally many images.
These figures are functions of single patients without noise: they stay at the site unless its person has
declared the data public.
"""

from dataclasses import dataclass
from math import nan

import torch
from monai.metrics.regression import compute_ms_ssim
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from medgan_core.evaluate.features import features, shuffled_by_patient, standardized

AT_MOST = 2000
SPLITS = 5
NEIGHBOURS = 5
PAIRS = 256
# MONAI's default of 11 pixels and five scales needs more than 160 pixels; this one needs more than 16.
MSSIM_KERNEL, MSSIM_WEIGHTS, MSSIM_LEAST_SIDE = 5, (0.3, 0.4, 0.3), 17


@dataclass(frozen=True)
class Fidelity:
    """How close synthetic images are to real ones; nan where there are too few images.

    `frechet` ≥ 0 and `kernel` (unbiased: about 0 for equal distributions, possibly below) are distances
    between a half of the real patients and as many synthetic images; `…_floor` the same between the two
    halves (for the kernel distance its root mean square over splits); `…_ratio` distance over floor: for
    images as good as real about 1 (.8 to 1.4 measured), for the kernel distance between about -1 and 1.
    `precision`, `recall`, `coverage` in [0, 1] and `density` ≥ 0: about .9, .9, .97 and 1 if equal.
    `msssim_…` in [0, 1]: mean similarity of pairs of a same class;
    synthetic well above real means a lack of diversity.
    """

    frechet: float = nan
    frechet_floor: float = nan
    frechet_ratio: float = nan
    kernel: float = nan
    kernel_floor: float = nan
    kernel_ratio: float = nan
    precision: float = nan
    recall: float = nan
    density: float = nan
    coverage: float = nan
    msssim_synthetic: float = nan
    msssim_real: float = nan


def fidelity(
    real: Tensor,
    real_owner: Tensor,
    real_labels: Tensor,
    synthetic: Tensor,
    synthetic_labels: Tensor,
    *,
    generator: torch.Generator,
) -> Fidelity:
    """Compare synthetic with real images.

    `real` [n, c, h, w] and `synthetic` [s, c, h, w] in [-1, 1]; labels [n], [s]; `real_owner` [n]: the
    patient of each real image; all on the CPU. Of each side at most 2,000 images are used, drawn with
    `generator`, which also draws halves and pairs. Where there are too few images a figure is nan.
    """
    chosen, drawn = (torch.randperm(len(each), generator=generator)[:AT_MOST] for each in (real, synthetic))
    real, real_owner, real_labels = real[chosen], real_owner[chosen], real_labels[chosen]
    synthetic, synthetic_labels = synthetic[drawn], synthetic_labels[drawn]
    figures = {
        "msssim_real": diversity(real, real_labels, real_owner, generator=generator),
        "msssim_synthetic": diversity(
            synthetic, synthetic_labels, torch.arange(len(synthetic)), generator=generator
        ),
    }
    if min(len(real), len(synthetic)) > NEIGHBOURS:
        of_real, of_synthetic = standardized(features(real), features(synthetic))
        figures |= _distances(of_real, real_owner, of_synthetic, generator)
        equal = min(len(real), len(synthetic))
        figures |= neighbourhoods(of_real[:equal], of_synthetic[:equal])
    return Fidelity(**figures)


def _distances(
    real: Tensor, owner: Tensor, synthetic: Tensor, generator: torch.Generator
) -> dict[str, float]:
    """Both distances and their floors, over random halves by patient."""
    rows = []
    for _ in range(SPLITS):
        order = shuffled_by_patient(owner, generator)
        half = _boundary(owner.cpu()[order])
        size = min(half, len(real) - half, len(synthetic))
        if size < 2:
            return {}
        a, b = real[order[:half]], real[order[half:]]
        a, b, s = (x[torch.randperm(len(x), generator=generator)[:size]] for x in (a, b, synthetic))
        rows.append([frechet(a, s), frechet(a, b), kernel(a, s), kernel(a, b)])
    table = torch.tensor(rows, dtype=torch.float64)
    fd, fd_floor, kd, _ = (float(column) for column in table.mean(dim=0))
    kd_floor = float(table[:, 3].square().mean().sqrt())
    return {
        "frechet": fd,
        "frechet_floor": fd_floor,
        "frechet_ratio": fd / fd_floor if fd_floor > 0 else nan,
        "kernel": kd,
        "kernel_floor": kd_floor,
        "kernel_ratio": kd / kd_floor if kd_floor > 0 else nan,
    }


def _boundary(owner: Tensor) -> int:
    """Where a list ordered by patient is cut between two patients, near the middle; 0 for one patient."""
    cuts = (owner[1:] != owner[:-1]).nonzero().flatten() + 1
    return int(cuts[(cuts - len(owner) / 2).abs().argmin()]) if len(cuts) else 0


def frechet(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of the Gaussians fitted to features a [n, d] and b [m, d], n, m ≥ 2.

    |μa - μb|² + tr(A + B - 2 (A^½ B A^½)^½): Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500.
    """
    covariance_a, covariance_b = a.double().T.cov(), b.double().T.cov()
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    means = (a.double().mean(dim=0) - b.double().mean(dim=0)).square().sum()
    return max(0.0, float(means + covariance_a.trace() + covariance_b.trace() - 2 * cross))


def kernel(a: Tensor, b: Tensor) -> float:
    """Kernel distance of features a, b [n, d], n ≥ 2: unbiased squared MMD with the kernel (x·y/d + 1)³.

    Bińkowski et al. 2018, arXiv:1801.01401, in the implementation of torchmetrics (equal n).
    """
    return float(poly_mmd(a, b))


def neighbourhoods(real: Tensor, synthetic: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall, density and coverage of features [n, d], [m, d], n, m > k.

    Kynkäänniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797.
    """
    real_radius, synthetic_radius = (torch.cdist(x, x).kthvalue(k + 1).values for x in (real, synthetic))
    distance = torch.cdist(real, synthetic)
    inside = distance < real_radius[:, None]
    return {
        "precision": float(inside.any(dim=0).double().mean()),
        "recall": float((distance < synthetic_radius).any(dim=1).double().mean()),
        "density": float(inside.sum(dim=0).double().mean() / k),
        "coverage": float(inside.any(dim=1).double().mean()),
    }


def diversity(images: Tensor, labels: Tensor, owner: Tensor, *, generator: torch.Generator) -> float:
    """Mean MS-SSIM in [0, 1] of random pairs of a same class and of different owners; nan without a pair.

    Wang et al. 2003 with three scales of weights .3, .4, .3 and a Gaussian window of 5 pixels, for sides from
    17 pixels on; as in Odena et al. 2017, arXiv:1610.09585. Each class gives equally many pairs.
    """
    first, second = [], []
    classes = labels.unique().tolist()
    for label in classes:
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        half = len(members) // 2
        one, other = members[:half], members[half : 2 * half]
        apart = (owner[one] != owner[other]).nonzero().flatten()[: max(1, PAIRS // len(classes))]
        first.append(images[one[apart]])
        second.append(images[other[apart]])
    if not any(len(each) for each in first) or min(images.shape[2:]) < MSSIM_LEAST_SIDE:
        return nan
    a, b = ((torch.cat(each).float() + 1) / 2 for each in (first, second))
    similarity = compute_ms_ssim(
        a, b, spatial_dims=2, data_range=1.0, kernel_size=MSSIM_KERNEL, weights=MSSIM_WEIGHTS
    )
    return float(similarity.mean())
