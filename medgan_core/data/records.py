"""What the readers of archives hand over: images in pooled order, labels and patients as in the files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

Unit = Literal["patient", "image"]


@dataclass(frozen=True, eq=False)
class Records:
    """A set before its names become positions.

    `images` [n, c, s, s] float32 in [-1, 1]; `labels` and `patients` are texts per image; `official` tells
    per image whether the published split holds it out, `sites` its site, None where the set does not say.
    `where` names an image's row in errors; `files` are all files that were read; `named` tells per image
    whether the set names its patient, None where it does for all or for none.
    """

    images: Tensor
    labels: tuple[str, ...]
    patients: tuple[str, ...]
    unit: Unit
    where: Callable[[int], str]
    files: tuple[Path, ...]
    official: tuple[bool, ...] | None = None
    sites: tuple[str, ...] | None = None
    named: tuple[bool, ...] | None = None
