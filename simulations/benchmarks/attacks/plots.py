"""The picture of the attacks: what inversion made of patients, and where planted patterns came out."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from medgan_core.release.pictures import plain_fonts, png
from simulations.attacks.planted import planted
from simulations.benchmarks.attacks.inverting import Inverted
from simulations.benchmarks.attacks.planting import OF_SITE, patterns

Panel = tuple[str, Tensor]
"""What a row of a picture shows, and its images [n, c, h, w]."""

_COLUMNS = 8
_NAMES = {"features": "from the last layer", "latents": "from latents", "samples": "posterior mean"}


def picture(tried: Sequence[Inverted], found: Sequence[Panel]) -> bytes:
    """A PNG: on the left patients and guesses at them, on the right the images most like what was planted.

    Patients' images are shown: for published sets alone.
    """
    left, right = inversions(tried), [("the patterns: of the site, of a patient", _patterns(found)), *found]
    rows = max(len(left), len(right))
    with plain_fonts():
        figure = Figure(figsize=(17, 1.02 * rows + 0.6), dpi=100, layout="constrained")
        axes = figure.subplots(rows, 2, squeeze=False)
        for column, (title, panels) in enumerate(
            (("gradient inversion of one step", left), ("planted at a site: the most similar samples", right))
        ):
            for row in range(rows):
                _strip(axes[row][column], panels[row] if row < len(panels) else None)
            axes[0][column].set_title(title, fontsize=12, loc="left")
        return png(figure)


def inversions(tried: Sequence[Inverted]) -> list[Panel]:
    """The patients, the mean images, and every attack's guesses, the least private first."""
    rows = [("patients", tried[0].victims), ("mean image of the generator", tried[0].means)]
    for one in tried:
        rows += [(f"{one.level}: {_NAMES[name]}", images) for name, images in one.guesses.items()]
    return rows


def _patterns(found: Sequence[Panel]) -> Tensor:
    """That of the site, then that of the first patient."""
    images = torch.zeros_like(found[0][1][:1])
    return torch.cat([planted(images, patterns(number)) for number in (OF_SITE, 0)])


def _strip(axes: Axes, panel: Panel | None) -> None:
    axes.set_axis_off()
    if panel is None:
        return
    name, images = panel
    shown = images[:_COLUMNS].mean(1).clamp(-1, 1)
    empty = torch.ones(_COLUMNS - len(shown), *shown.shape[1:])
    axes.imshow(torch.cat(list(torch.cat([shown, empty])), 1).numpy(), cmap="gray", vmin=-1, vmax=1)
    axes.text(-0.01, 0.5, name, transform=axes.transAxes, ha="right", va="center", fontsize=9)
