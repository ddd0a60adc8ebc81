"""What a file shows, and what was made of it: between the kinds of file and the network."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from medgan_core.release.purposes import Purpose

Values = NDArray[np.float64]
_ROUNDING = 1e-4
"""Of the range of brightness, by which a value may miss itself on its way back."""
SUFFIX: dict[Purpose, str] = {
    "segmentation": "_mask",
    "restoration": "",
    "translation": "",
    "anomaly": "_heat",
}
"""What is added to a file's name, so that a mask is not taken for an image."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """`images` [n, c, h, w] in [-1, 1], as large as in the file; c counts colours, or registered modalities.

    `spacing` is (between rows, between columns) in mm, None where the file does not say; `names` [n] tell
    the images of a file apart.
    """

    images: Tensor
    spacing: tuple[float, float] | None
    names: tuple[str, ...]
    modalities: bool = False


@dataclass(frozen=True)
class Origin:
    """What made an output: the study and the SHA-256 of its generator, MedGAN's version, and `words`.

    `words` say what was done, such as "restored, noise 0.1"; `label` is that of a mask's structure and
    `code` its type as (value, scheme, meaning).
    """

    study: str
    model: str
    version: str
    words: str
    label: str
    code: tuple[str, str, str] | None = None

    def described(self) -> str:
        """One line for people and for provenance."""
        return (
            f"{self.words} by the network of study {self.study}, SHA-256 {self.model}, MedGAN {self.version}"
        )


@dataclass(frozen=True, eq=False)
class Made:
    """`outputs` [n, k, f·h, f·w] in [-1, 1] of a file's n images, enlarged by the `factor` f.

    k is 1 for a mask (inside above 0) and a heat map (abnormal at 1), else the file's own c. `scores` [n] in
    [0, 1] are those of an anomaly. `holes` [n, h, w] is where nothing of the file is left.
    """

    purpose: Purpose
    outputs: Tensor
    origin: Origin
    scores: Tensor | None = None
    factor: int = 1
    holes: Tensor | None = None

    def masks(self) -> NDArray[np.uint8]:
        """[n, h, w], 1 inside."""
        return (self.outputs[:, 0] > 0).numpy().astype(np.uint8)

    def shares(self) -> NDArray[np.float32]:
        """The outputs in [0, 1]."""
        shares: NDArray[np.float32] = ((self.outputs + 1) / 2).clamp(0, 1).numpy()
        return shares


class Case(Protocol):
    """One file, or several that belong together; `name` is below the input's folder, with / between."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def read(self) -> Pictures:
        """What it shows. Raises DataError for what cannot be read."""

    def files(self, made: Made) -> Iterator[tuple[str, bytes]]:
        """Names below the output's folder and contents, of the same kind, once `read` was called."""


@dataclass(frozen=True, eq=False)
class Scale:
    """How stored values became brightness in [0, 1], to go back: `units` ascending, and `levels` of each."""

    units: Values
    levels: Values

    @classmethod
    def of(cls, stored: NDArray[Any], units: NDArray[Any]) -> "Scale":
        """From an image and its brightness, which is a function of its values that never turns round."""
        values, first = np.unique(stored, return_index=True)
        bright = units.ravel()[first].astype(np.float64)
        if len(bright) > 1 and bright[0] > bright[-1]:
            values, bright = values[::-1], bright[::-1]
        if (np.diff(bright) < -1e-6).any():
            raise ValueError("brightness does not follow the values, so that there is no way back")
        distinct, first = np.unique(bright, return_index=True)
        levels = values[first].astype(np.float64)
        if len(distinct) > 1:  # below the window: the value at its edge stands for all that are black
            levels[0] = values[first[1] - 1]
        return cls(distinct, levels)

    @classmethod
    def between(cls, low: float, high: float) -> "Scale":
        """The straight line from `low` (black) to `high` (white)."""
        return cls(np.array([0.0, 1.0]), np.array([low, high]))

    def back(self, units: NDArray[Any]) -> Values:
        """The values of brightness in [0, 1]."""
        return np.asarray(np.interp(units, self.units, self.levels))

    def spread(self, units: NDArray[Any]) -> Values:
        """Brightness of another modality, evenly over the values that the file shows."""
        low, high = self.levels[0], self.levels[-1]
        return np.asarray(low + units * (high - low), np.float64)


def put_back(
    stored: NDArray[Any],
    before: NDArray[Any],
    scale: Scale,
    made: Made,
    index: int,
    channel: int,
) -> Values:
    """An output in the values of its file, [f·h, f·w], from `stored` [h, w] and its brightness in [0, 1].

    Values beyond the window stay what they are, since the network never saw them; of an enlarged image what
    they have beyond it is added. In a hole nothing is left of them.
    """
    after = made.shares()[index, channel]
    if made.purpose == "translation":
        return scale.spread(after)
    beyond = stored.astype(np.float64) - scale.back(before)
    if made.holes is not None:
        beyond = np.where(made.holes[index].numpy(), 0.0, beyond)
    values = scale.back(after) + enlarged(beyond, made.factor)
    if made.factor > 1:
        return values
    unseen = np.abs(beyond) > _ROUNDING * abs(scale.levels[-1] - scale.levels[0])
    return np.where(unseen, stored, values)


def enlarged(values: Values, factor: int) -> Values:
    """[h, w] to [f·h, f·w] by bicubic interpolation."""
    if factor == 1:
        return values
    many = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    grown = interpolate(many, scale_factor=factor, mode="bicubic", align_corners=False)
    return np.asarray(grown[0, 0].numpy())


def overlay(image: Tensor, heat: Tensor) -> NDArray[np.uint8]:
    """RGB [h, w, 3]: an image [c, h, w] in [-1, 1] in grey, under a heat map [h, w] in [-1, 1] in red."""
    grey = (image.mean(0).clamp(-1, 1) + 1) / 2
    share = ((heat + 1) / 2).clamp(0, 1)
    opaque = 0.7 * share
    red, rest = grey * (1 - opaque) + opaque, grey * (1 - opaque)
    yellow = rest + opaque * (2 * share - 1).clamp(0, 1)
    return (torch.stack([red, yellow, rest], dim=-1) * 255).round().byte().numpy()
