"""What the readers of archives hand over: images in pooled order, labels and patients as in the files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from medgan_core.data.dicom.report_card import ReportCard

Unit = Literal["patient", "image"]
LABEL = "image"
"""Of all volumes, where neither files nor the study name a class."""


@dataclass(frozen=True)
class Left:
    """An image, or a study of volumes, that was left out; `site` is "" where the set does not say."""

    reason: str
    site: str = ""


@dataclass(frozen=True, eq=False)
class Records:
    """A set before its names become positions.

    `images` [n, c, s, s] float32 in [-1, 1]; `labels` and `patients` are texts per image; `official` tells
    per image whether the published split holds it out, `sites` its site, None where the set does not say.
    `where` names an image's row in errors; `files` are all files that were read; `named` tells per image
    whether the set names its patient, None where it does for all or for none; `report` tells a site's person
    what became of every DICOM file. `left_out` are images without what the study needs, such as a mask.
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
    report: ReportCard | None = None
    left_out: tuple[Left, ...] = ()
