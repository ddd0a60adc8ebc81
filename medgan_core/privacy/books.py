"""The book of one layer: patients' norms, and the weighted sum of their gradients."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from medgan_core.privacy.layers import KINDS, sampled
from medgan_core.privacy.norms import WeightGradients, weighted, wide
from medgan_core.privacy.taps import Tap


class Book:
    """What a layer's calls in one pass add to patients' gradients.

    `counts`: how many images each patient has, in rising order; their rows lie together in this order.
    """

    def __init__(self, layer: nn.Module, taps: list[Tap], counts: list[int]) -> None:
        self._layer, self._taps, self._counts = layer, taps, counts
        self._kind = KINDS.get(type(layer))
        number = torch.tensor(counts, device=taps[0].gradient.device)
        self._place = torch.arange(len(counts), device=number.device).repeat_interleave(number)
        self._trained = {name: p for name, p in layer.named_parameters(recurse=False) if p.requires_grad}
        self._small = self._small_gradients()
        self._large = self._large_gradients()

    def squares(self) -> Tensor:
        """Squared norms of each patient's gradient and of its terms, float64 [patients, 2]."""
        squares = torch.zeros(len(self._counts), 2, dtype=torch.float64, device=self._place.device)
        for gradient in self._small.values():
            squares[:, 0] += gradient.flatten(1).square().sum(1)
        return squares if self._large is None else squares + self._large.squares()

    def sums(self, multipliers: Tensor) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Σ multiplier · gradient over patients for each parameter; those of multiplier 0 are left out."""
        for name, gradient in self._small.items():
            yield self._trained[name], weighted(multipliers, gradient)
        if self._large is None:
            return
        weight = self._trained["weight"]
        if self._large.by_gram:
            yield from ((weight, total) for total in self._totals(multipliers))
        else:
            first, second, *kernel = weight.shape
            total = self._large.weighted(multipliers)
            yield weight, total.reshape(first, *kernel, second).movedim(-1, 1).contiguous()

    def _totals(self, multipliers: Tensor) -> Iterator[Tensor]:
        """The weighted gradient of the weight from each call, without patients' own gradients."""
        by_image = multipliers[self._place]
        rows = slice(None) if bool((by_image > 0).all()) else by_image > 0
        for tap in self._taps:
            a, g = wide(tap.inputs[0][rows]), wide(tap.gradient[rows])
            scale = by_image[rows].to(g.dtype).view(-1, *[1] * (g.dim() - 1))
            if self._kind is not None and self._kind.total is not None:
                yield self._kind.total(self._layer, a, g * scale)

    def _large_gradients(self) -> WeightGradients | None:
        """Those of the weight, where it has factors."""
        layer, kind = self._layer, self._kind
        if kind is None or (factors := kind.factors) is None or "weight" not in self._trained:
            return None
        pairs = [(tap.inputs[0], tap.gradient) for tap in self._taps]
        return WeightGradients(lambda a, g: factors(layer, a, g), pairs, self._counts)

    def _small_gradients(self) -> dict[str, Tensor]:
        """Patients' gradients [patients, …] of the parameters that have no factors, by name."""
        made: dict[str, Tensor] = {}
        for tap in self._taps:
            for name, gradient in self._by_image(tap).items():
                if name in self._trained:
                    empty = gradient.new_zeros(len(self._counts), *gradient.shape[1:])
                    made.setdefault(name, empty).index_add_(0, self._place, gradient)
        return made

    def _by_image(self, tap: Tap) -> dict[str, Tensor]:
        inputs, g = tuple(wide(x) for x in tap.inputs), wide(tap.gradient)
        if self._kind is None:
            return sampled(self._layer, inputs, g)
        return self._kind.small(self._layer, inputs[0], g)
