"""The sum of clipped patient gradients, without a gradient for each image.

One forward pass, one backward pass for the layers' outputs, norms layer by layer, one weighted gradient of
each weight: book-keeping (Bu et al. 2023, https://arxiv.org/abs/2210.00038), by patient. A patient's images
weigh 1/count each and their positions are taken together, so that the norm is that of the mean over them.

Precision. Norms are float64 sums over float32 taps and the weighted sum is float32, whatever the precision of
the passes. Where a gradient is kept or made again for the sum, its norm is that of the very tensor which is
added. Where it is not, t positions are summed anew: that rounds it by at most R = 2⁻²⁴ (t + 2) ‖g‖ ‖a‖
(Higham 2002, "Accuracy and Stability of Numerical Algorithms", eq. 3.13), and the norm N that is clipped by
becomes max(N + R, 2¹⁰ R). So what is added of a patient, measured in float64, has a norm of at most
C (1 + 10⁻⁶), and its terms are at most 2¹⁴ C / (t + 2). A patient's presence also moves how the sum of the
others is rounded: ordinarily by some 10⁻⁷ C for each of them, by some 10⁻³ C where large terms of its own
cancel. By that much the sensitivity of a float32 sum is more than the C that ε counts.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medgan_core.errors import ConfigError
from medgan_core.privacy.admission import private_layers
from medgan_core.privacy.books import Book
from medgan_core.privacy.taps import (
    Tap,
    check_images_are_apart,
    check_inputs_are_kept,
    check_weights_are_seen,
    recording,
    taps_of,
    unchanged,
)

ExampleLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]
_AT_ONCE = {"cpu": 128}
_SWITCHING = threading.RLock()
Sums = Iterator[tuple[nn.Parameter, Tensor]]


@dataclass(frozen=True, eq=False)
class Part:
    """Patients who pass through the network together: their rows, and how many each has, in rising order."""

    rows: Tensor
    counts: list[int]


class BookKeeper:
    """Clipped sums over patients, for one network or for several in a ModuleDict.

    `physical_batch`: how many images pass through the network at once; a patient's stay together. By default
    128 on a processor, where more is no faster and takes memory, and all elsewhere. `half`: forward and
    backward in bfloat16. Raises ConfigError naming a layer that may not learn from patients.
    """

    def __init__(self, network: nn.Module, *, physical_batch: int | None = None, half: bool = False) -> None:
        self.network = network
        self._physical_batch = physical_batch
        self._half = half
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self._layers = private_layers(network)
        self._seen_apart = False

    def clipped_sum(
        self, loss: ExampleLoss, images: Tensor, labels: Tensor, owner: Tensor, clip_norm: float
    ) -> list[Tensor]:
        """Σ over patients of their mean gradient, each scaled to a norm of at most `clip_norm` over all.

        In the order of the network's trainable parameters; float32, and float64 where parts are added up.
        `loss(network, images, labels)` gives one value an image, [n]; whatever it calls the network on has a
        row for each image, in their order. `owner` [n] tells patients apart. A patient whose gradient is not
        finite contributes zero.
        """
        total: dict[nn.Parameter, Tensor] = {}
        at_once = self._physical_batch or _AT_ONCE.get(images.device.type)
        for part in parts_of(owner, at_once):
            taps = self._taps(loss, images[part.rows], labels[part.rows], part.counts)
            with torch.no_grad(), full_precision(images.device):
                for parameter, gradient in self._sums(taps, part.counts, clip_norm):
                    before = total.get(parameter)
                    total[parameter] = gradient if before is None else before.double().add_(gradient)
        return [total[p] if p in total else torch.zeros_like(p) for p in self.parameters]

    def _taps(
        self, loss: ExampleLoss, images: Tensor, labels: Tensor, counts: list[int]
    ) -> dict[str, list[Tap]]:
        """One pass forward and one back; the first of several images also shows that they are kept apart."""
        checked = not self._seen_apart and len(images) > 1 and images.is_floating_point()
        images = images.detach().requires_grad_(checked)
        with (
            recording(self._layers, len(images)) as calls,
            unchanged(self.network),
            torch.autocast(images.device.type, torch.bfloat16, enabled=self._half),
        ):
            losses = loss(self.network, images.clone() if checked else images, labels)
        if losses.shape != (len(images),):
            raise ConfigError("loss", tuple(losses.shape), f"one value for each image, ({len(images)},)")
        check_inputs_are_kept(calls)
        check_weights_are_seen(losses, calls, self._layers)
        if checked:
            check_images_are_apart(losses, calls, images, self.network)
            self._seen_apart = True
        number = torch.tensor(counts, device=images.device)
        return taps_of(losses, (1.0 / number).repeat_interleave(number), calls)

    def _sums(self, taps: dict[str, list[Tap]], counts: list[int], clip_norm: float) -> Sums:
        """The clipped sum over some patients, parameter by parameter."""
        if not taps:
            return
        books = [Book(self._layers[name], found, counts) for name, found in taps.items()]
        squares = torch.stack([book.squares() for book in books]).sum(0)
        precise = all(p.dtype == torch.float64 for p in self.parameters)
        factors = clip_factors(squares, clip_norm, torch.float64 if precise else torch.float32)
        for book in books:
            yield from book.sums(factors)


def parts_of(owner: Tensor, physical_batch: int | None) -> Iterator[Part]:
    """The patients of a batch, those of few images first; `physical_batch` images or one patient a part."""
    _, place, count = owner.unique(return_inverse=True, return_counts=True)
    rows = torch.argsort(count[place] * len(count) + place, stable=True)
    counts: list[int] = []
    start = 0
    for images in count.sort().values.tolist():
        if counts and physical_batch is not None and sum(counts) + images > physical_batch:
            yield Part(rows[start : start + sum(counts)], counts)
            start, counts = start + sum(counts), []
        counts.append(images)
    if counts:
        yield Part(rows[start:], counts)


def clip_factors(squares: Tensor, clip_norm: float, dtype: torch.dtype) -> Tensor:
    """What each patient's gradient is multiplied by, float64 [patients]; 0 where it is not finite in `dtype`.

    `squares` [patients, 2]: of the norm, and of the terms which bound its rounding.
    """
    norm, terms = squares.sqrt().unbind(1)
    rounding = terms * (torch.finfo(dtype).eps / 2)
    bound = torch.maximum(norm + rounding, rounding * 2.0**10)
    factor = (clip_norm / bound.clamp_min(1e-300)).clamp_max(1.0)
    return factor.where(torch.isfinite(bound) & (factor >= torch.finfo(dtype).tiny), 0.0)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Neither autocast nor TF32 nor bfloat16 products: norm and sum of the same gradient must agree.

    The switches are the process's: another thread's sums wait, or it would turn them back under ours.
    """
    backends: Any = torch.backends
    switches = [
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    ]
    with _SWITCHING:
        before = [switch.fp32_precision for switch in switches]
        try:
            for switch in switches:
                switch.fp32_precision = "ieee"
            with torch.autocast(device.type, enabled=False):
                yield
        finally:
            for switch, value in zip(switches, before, strict=True):
                switch.fp32_precision = value
