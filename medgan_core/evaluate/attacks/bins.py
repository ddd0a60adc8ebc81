"""What a site tells of an attack on the generator: how many patients got which score, in public bins.

Cells are [attack, half, bin]. Every patient falls by a secret coin into one of two halves, so that members
can be compared with members (`figures.AttackFigure.control`). For each of A attacks a patient adds the *mean*
of the one-hot bins of their images: entries ≥ 0 that sum to 1, divided by √A. Adding or removing a patient
hence moves all cells together by at most 1 in the L2 norm, the sensitivity that the noise is made for.
"""

import math

import torch
from torch import Tensor

from medgan_core.config import ATTACK_BINS
from medgan_core.privacy.grid import to_grid

BINS = ATTACK_BINS
HALVES = 2


def attack_sum(cells: Tensor, owner: Tensor, half: Tensor) -> Tensor:
    """Sum over patients of their vectors: float64 [A, 2, 12], without noise.

    `cells` [n, A] int64 is the bin of each image under each attack; `owner` [n] int64 says to which patient
    each image belongs; `half` [patients] int64 in {0, 1} is a coin of each patient. A bin or half outside
    of its range is taken for the nearest in it.
    """
    flat, weight, shape = _placed(cells, owner, half)
    return flat.flatten().bincount(weight.flatten(), minlength=math.prod(shape)).reshape(shape)


def attack_grid_sum(cells: Tensor, owner: Tensor, half: Tensor) -> Tensor:
    """The same on the grid of secure sums, int64 [A, 2, 12]: each image's part is rounded on its own."""
    flat, weight, shape = _placed(cells, owner, half)
    steps = torch.zeros(math.prod(shape), dtype=torch.int64)
    return steps.index_add_(0, flat.flatten(), to_grid(weight.flatten())).reshape(shape)


def _placed(cells: Tensor, owner: Tensor, half: Tensor) -> tuple[Tensor, Tensor, tuple[int, int, int]]:
    """The flat cell of each image under each attack [n, A], its weight [n, A], and the shape of the sum."""
    attacks = cells.shape[1]
    row = torch.arange(attacks) * HALVES + half.clamp(0, HALVES - 1)[owner][:, None]
    weight = 1 / (math.sqrt(max(attacks, 1)) * owner.bincount().double()[owner])
    shape = (attacks, HALVES, BINS)
    return row * BINS + cells.clamp(0, BINS - 1), weight[:, None].expand(-1, attacks), shape
