"""Patients' gradients of one weight from their factors, a few patients at a time: norms and weighted sums.

The cheaper of two ways: norms by the Gram matrices of the positions, whose elementwise product sums to the
squared norm (ghost clipping, Li et al. 2021, https://arxiv.org/abs/2110.05679, section 4); or the gradients
themselves, which are kept for the sum where they are small and made again where they are not.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import gcd

import torch
from torch import Tensor

from medgan_core.privacy.layers import Factors

_FLOAT64_COST = 2
_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Elements worked on at once: what a processor's cache holds, or a small part of a device's memory."""
_LEAST_SQUARE = 2.0**-102
"""Mean square of a gradient's elements from which on what float32 cannot hold, 2⁻¹²⁶, is but a rounding."""
_KEPT = 1 << 24
"""Elements of patients' gradients of one weight that are kept for the sum: 64 MiB in float32."""


def wide(x: Tensor) -> Tensor:
    """In the precision of norms and sums: float32, or float64 where the network is."""
    return x.float() if x.is_floating_point() and x.dtype != torch.float64 else x


class WeightGradients:
    """Gradients [groups, o, p] of one weight, one for each patient.

    `factors(a, g)` as a layer's kind gives them; `taps`: input and output's gradient of each call, [n, …];
    `counts`: how many images each patient has, in rising order, their rows lying together in this order.
    """

    def __init__(
        self,
        factors: Callable[[Tensor, Tensor], Factors],
        taps: Sequence[tuple[Tensor, Tensor]],
        counts: Sequence[int],
    ) -> None:
        self._factors, self._taps, self._counts = factors, taps, counts
        shapes = [factors(a[:1].to("meta"), g[:1].to("meta")) for a, g in taps]
        left, right = shapes[0]
        positions = sum(one.shape[2] for one, _ in shapes)
        self._shape = (left.shape[1], left.shape[3], right.shape[3])
        self.by_gram = _gram_is_cheaper(positions, *self._shape[1:], counts) or not right.is_floating_point()
        elements = sum(one.numel() + other.numel() for one, other in shapes)
        # Beside the factors lie their copies in float64, or the gradients.
        elements += _FLOAT64_COST * elements if self.by_gram else torch.Size(self._shape).numel()
        self._at_once = max(1, _AT_ONCE.get(taps[0][1].device.type, 1 << 20) // elements)
        self._kept: Tensor | None = None

    def squares(self) -> Tensor:
        """Squared norms, and (t + 2)² Σ‖left‖² Σ‖right‖² over the t positions: float64 [patients, 2].

        The second is of a gradient's terms before they cancel and bounds the rounding of a sum that is
        computed from them; it is 0 where the gradients themselves are summed.
        """
        if self.by_gram:
            parts = [_gram_squares(*self._joined(rows, images)) for rows, images, _ in self._parts()]
            return torch.cat(parts).view(len(self._counts), self._shape[0], 2).sum(1)
        norms = [_square(gradients) for _, gradients in self._gradients(keep=True)]
        return torch.stack([torch.cat(norms), torch.zeros_like(torch.cat(norms))], dim=1)

    def weighted(self, multipliers: Tensor) -> Tensor:
        """Σ multiplier · gradient, [groups, o, p], of the very gradients whose norms were taken.

        Patients whose multiplier is 0 are left out.
        """
        if self._kept is not None:
            return weighted(multipliers, self._kept)
        total = torch.zeros(self._shape, dtype=torch.float64, device=multipliers.device)
        for patients, gradients in self._gradients():
            total += weighted(multipliers[patients], gradients)
        return total

    def _gradients(self, keep: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """Patients' places and gradients [patients, groups, o, p]."""
        shape = torch.Size((len(self._counts), *self._shape))
        if keep and shape.numel() <= _KEPT:
            gradient = self._taps[0][1]
            self._kept = wide(gradient.new_empty(0)).new_empty(shape)
        for rows, images, patients in self._parts():
            left, right = self._joined(rows, images)
            out = None if self._kept is None else self._kept[patients].flatten(0, 1)
            yield patients, torch.bmm(left.mT, right, out=out).unflatten(0, (-1, shape[1]))

    def _joined(self, rows: slice, images: int) -> Factors:
        """Both factors over all calls, [patients · groups, images · positions, …]."""
        pairs = [self._factors(wide(a[rows]), wide(g[rows])) for a, g in self._taps]
        left, right = ([pair[i] for pair in pairs] for i in (0, 1))
        return _by_patient(left, images), _by_patient(right, images)

    def _parts(self) -> Iterator[tuple[slice, int, slice]]:
        """Rows of whole patients with as many images each, that number, and their places among patients."""
        row = patient = 0
        for images, same in groupby(self._counts):
            last = patient + len(list(same))
            while patient < last:
                some = min(max(1, self._at_once // images), last - patient)
                yield slice(row, row + some * images), images, slice(patient, patient + some)
                row, patient = row + some * images, patient + some


def weighted(multipliers: Tensor, gradients: Tensor) -> Tensor:
    """Σ multiplier · gradient [patients, …] of the patients whose multiplier is not 0.

    0 · ∞ would be no number, hence left out and not multiplied.
    """
    some = slice(None) if bool((multipliers > 0).all()) else multipliers > 0
    total: Tensor = torch.tensordot(multipliers[some].to(gradients.dtype), gradients[some], 1)
    return total


def _gram_is_cheaper(positions: int, o: int, p: int, counts: Sequence[int]) -> bool:
    """Whether Gram matrices of [t, o] and [t, p] cost less than their product.

    They are float64, since in float32 they would lose what is left when large terms cancel.
    """
    squares = sum((positions * images) ** 2 for images in counts)
    return _FLOAT64_COST * squares * (o + p) < positions * sum(counts) * o * p


def _by_patient(calls: list[Tensor], images: int) -> Tensor:
    every = calls[0] if len(calls) == 1 else torch.cat(calls, dim=2)
    groups, positions, size = every.shape[1:]
    together = every.view(-1, images, groups, positions, size).transpose(1, 2)
    return together.reshape(-1, images * positions, size)


def _gram_squares(left: Tensor, right: Tensor) -> Tensor:
    """‖Σₜ leftₜ ⊗ rightₜ‖² and (t + 2)² Σₜ‖leftₜ‖² Σₜ‖rightₜ‖² of [b, t, o] and [b, t, p]: float64 [b, 2]."""
    ours, theirs = _gram(left), _gram(right) if right.is_floating_point() else (right == right.mT).double()
    norms = (ours * theirs).sum((1, 2)).clamp_min(0.0)
    terms = ours.diagonal(dim1=1, dim2=2).sum(1) * theirs.diagonal(dim1=1, dim2=2).sum(1)
    return torch.stack([norms, terms * (left.shape[1] + 2) ** 2], dim=1)


def _gram(x: Tensor) -> Tensor:
    wider = x.double()
    return torch.bmm(wider, wider.mT)


def _square(x: Tensor) -> Tensor:
    """Squared norms of [patients, …], float64 [patients].

    Short rows in float32 first, four times faster than all in float64: each is exact to 2·10⁻⁷. Where squares
    pass the range of float32, above or below, in float64 after all.
    """
    flat = x.flatten(1)
    row = gcd(flat.shape[1], 256)
    if x.dtype == torch.float32 and row >= 16:
        rows: Tensor = torch.linalg.vector_norm(flat.view(len(flat), -1, row), dim=2)
        squares = rows.double().square().sum(1)
        if bool((torch.isfinite(squares) & (squares >= _LEAST_SQUARE * flat.shape[1])).all()):
            return squares
    norms: Tensor = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)
    return norms.square()
