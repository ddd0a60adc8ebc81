"""Patterns that are planted in a site's images, and the search for them in what a generator draws.

The attacker knows the pattern and its place: the strongest search there is. Patterns of the same kind that
nobody planted say what the search finds by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import normalize

from medgan_core.data.source import Site

_CELL, _CELLS = 3, 4
_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
_REACH = 2
"""How far from its place a pattern is looked for, in pixels."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Pixels [h, w] in [-1, 1], and the row and column of an image where their first one comes."""

    name: str
    pixels: Tensor
    row: int
    column: int


def patch(seed: int, row: int = 1, column: int = 1) -> Pattern:
    """Black and white cells of 3 × 3 pixels, four by four of them: one of 65,536."""
    random = torch.Generator().manual_seed(seed)
    cells = torch.randint(0, 2, (_CELLS, _CELLS), generator=random) * 2.0 - 1
    pixels = cells.repeat_interleave(_CELL, 0).repeat_interleave(_CELL, 1)
    return Pattern("patch", pixels, row, column)


def text(seed: int, row: int = 16, column: int = 2) -> Pattern:
    """Four letters, white on black, as a device burns a name in: one of 279,841."""
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randint(0, len(_LETTERS), (4,), generator=random)
    page = Image.new("L", (24, 10))
    written = "".join(_LETTERS[i] for i in chosen)
    ImageDraw.Draw(page).text((0, -1), written, fill=255, font=ImageFont.load_default_imagefont())
    pixels = torch.from_numpy(np.asarray(page).copy()).float() / 127.5 - 1
    return Pattern("text", pixels, row, column)


def planted(images: Tensor, patterns: Sequence[Pattern]) -> Tensor:
    """Copies of images [n, c, h, w] with these patterns in every channel of each."""
    changed = images.clone()
    for pattern in patterns:
        height, width = pattern.pixels.shape
        rows, columns = (
            slice(pattern.row, pattern.row + height),
            slice(pattern.column, pattern.column + width),
        )
        changed[:, :, rows, columns] = pattern.pixels
    return changed


def plant(site: Site, patients: Sequence[int] | None, patterns: Sequence[Pattern]) -> Site:
    """The site with patterns in all images of these training patients, by position; None is all of them."""
    data = site.training
    chosen = torch.arange(len(data)) if patients is None else torch.as_tensor(patients)
    theirs = torch.isin(data.owner, chosen)
    images = data.images.clone()
    images[theirs] = planted(images[theirs], patterns)
    return replace(site, training=replace(data, images=images))


def likeness(images: Tensor, patterns: Sequence[Pattern]) -> Tensor:
    """The largest normalised cross-correlation of each image with each pattern around its place, [n, p].

    Images [n, c, h, w], the mean of whose channels counts; patterns have one size and one place. Lewis 1995,
    "Fast Normalized Cross-Correlation". A flat window is like nothing.
    """
    first, grey = patterns[0], images.double().mean(1)
    height, width = first.pixels.shape
    rows = range(max(first.row - _REACH, 0), min(first.row + _REACH, grey.shape[1] - height) + 1)
    columns = range(max(first.column - _REACH, 0), min(first.column + _REACH, grey.shape[2] - width) + 1)
    wanted = _shape(torch.stack([pattern.pixels.double() for pattern in patterns]))
    found = [
        _shape(grey[:, row : row + height, column : column + width]) @ wanted.T
        for row in rows
        for column in columns
    ]
    return torch.stack(found).amax(0)


@dataclass(frozen=True)
class Finding:
    """What the search found.

    `rate`: the share of images that are more like the pattern than 99 in 100 pairs of an image and a pattern
    that nobody planted. `reference`: the same share among images of a generator of the same make that was
    never shown the pattern: some patterns look like a body. `rank`: the share of patterns, this one among
    them, that gained as much from one to the other or more.
    """

    rate: float
    reference: float
    rank: float

    @property
    def found(self) -> bool:
        """Whether at most 1 in 20 of all patterns gained as much: among those never planted 1 in 20 do."""
        return self.rank <= 0.05


def search(images: Tensor, reference: Tensor, pattern: Pattern, others: Sequence[Pattern]) -> Finding:
    """Look for a pattern in images, and for others of its size and place that were never planted."""
    rates = shares(images, [pattern, *others])
    before = shares(reference, [pattern, *others])
    gains = rates - before
    rank = float((gains >= gains[0]).double().mean())
    return Finding(float(rates[0]), float(before[0]), rank)


def shares(images: Tensor, patterns: Sequence[Pattern]) -> Tensor:
    """Of each pattern the share of images that are more like it than 99 in 100 pairs, [p].

    Pairs are of an image and any pattern but the first.
    """
    alike = likeness(images, patterns)
    limit = float(np.quantile(alike[:, 1:].numpy(), 0.99))
    return (alike > limit).double().mean(0)


def _shape(windows: Tensor) -> Tensor:
    """Windows [n, h, w] without their mean and scale, flat."""
    flat = windows.flatten(1)
    return normalize(flat - flat.mean(1, keepdim=True), dim=1)
