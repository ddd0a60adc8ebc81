"""The pictures of a report: what is drawn, what repeats itself, how well attacks did, what it cost.

All are made of the release alone, and the same release gives the same bytes.
"""

from math import isfinite, sqrt
from statistics import NormalDist
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

from medgan_core.evaluate.attacks.figures import AttackFigures
from medgan_core.release.bundle import Release
from medgan_core.release.card import ReleaseCard
from medgan_core.release.check.attacked import attack_figures
from medgan_core.release.check.content import ceiling
from medgan_core.release.check.drawn import differences, drawn
from medgan_core.release.check.report import story_of
from medgan_core.release.check.result import told_name
from medgan_core.release.check.subgroups import accuracy_error
from medgan_core.release.pictures import (
    epsilon_picture,
    panel_grid,
    plain_fonts,
    png,
    sample_grid,
    side_by_side,
    titled,
)
from medgan_core.release.spending import epsilon_by_round

_QUERIES, _NEAREST, _ROWS, _COLUMNS, _CELL = 4, 5, 6, 8, 128
_COLOURS = ("#0b6e99", "#c4561b", "#5b4a9e", "#2f7d4f", "#a8326e")
_MUTED, _INK, _RED = "#5b6776", "#1b2430", "#b3261e"
_DPI = 200


def pictures_of(release: Release, card: ReleaseCard) -> dict[str, bytes]:
    """The PNGs that the story of a checked release needs, by name."""
    names, found = story_of(card).pictures, card.check
    made = drawn(release) if "samples" in names else None
    pictures: dict[str, bytes] = {}
    if made is not None:
        pictures["samples"] = _samples(card, *made)
        pictures["neighbours"] = _neighbours(card, *made)
    figures = attack_figures(card, release.receipts)
    if "roc" in names and figures is not None and found is not None:
        pictures["roc"] = roc(figures, ceiling(card), found.attack_limit)
    if "use" in names:
        pictures["use"] = use(card, accuracy_error(card, release.receipts))
    if "spent" in names:
        spent = epsilon_by_round(release.receipts, card.delta)
        pictures["spent"] = epsilon_picture(spent)
    return pictures


def _told(card: ReleaseCard) -> dict[str, Any]:
    return {"private": card.private, "epsilon": card.epsilon, "delta": card.delta, "unit": card.unit}


def _samples(card: ReleaseCard, images: Tensor, labels: Tensor) -> bytes:
    if images.shape[1] in (1, 3):
        first = torch.cat([(labels == label).nonzero()[:_COLUMNS, 0] for label in labels.unique()])
        scale = max(1, _CELL // images.shape[3])
        shown = images[first].repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        names = card.data.classes
        return sample_grid(shown, labels[first], names, real=None, title="Drawn images", **_told(card))
    rows = torch.linspace(0, len(images) - 1, _ROWS).round().long()
    panels = (("its channels or slices, beside each other", side_by_side(images[rows])),)
    return panel_grid(panels, title="Drawn images", names=_names(card, labels[rows]), **_told(card))


def _neighbours(card: ReleaseCard, images: Tensor, labels: Tensor) -> bytes:
    """Rows of an image and those nearest to it; the first is the one that is most like another."""
    apart = differences(images)
    first = int(apart.min(dim=1).values.argmin())
    others = torch.linspace(0, len(images) - 1, _QUERIES - 1).round().long()
    queries = torch.cat([torch.tensor([first]), others])
    near = apart[queries].topk(_NEAREST, largest=False)
    shown = images if images.shape[1] in (1, 3) else side_by_side(images[:, : min(3, images.shape[1])])
    columns = [("drawn", shown[queries])]
    columns += [(f"{place + 1}.", shown[near.indices[:, place]]) for place in range(_NEAREST)]
    names = [
        f"{name}, {float(value):.1%}"
        for name, value in zip(_names(card, labels[queries]), near.values[:, 0], strict=True)
    ]
    title = "Nearest neighbours among drawn images, and how far the first is"
    return panel_grid(columns, title=title, names=names, **_told(card))


def _names(card: ReleaseCard, labels: Tensor) -> list[str]:
    return [card.data.classes[label][:14] for label in labels.tolist()]


def roc(figures: AttackFigures, highest: float, limit: float) -> bytes:
    """ROC curves of the attacks, the curve that ε allows at most, and that of the limit."""
    with plain_fonts():
        figure = Figure(figsize=(5.6, 5.2), dpi=_DPI, facecolor="white")
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
        axes = figure.subplots()
        titled(axes, "How well attacks tell training patients from others")
        grid = torch.linspace(0, 1, 201, dtype=torch.float64).numpy()
        axes.fill_between(grid, _gaussian(grid, highest), 1, color="#eef1f4", linewidth=0)
        axes.plot(
            grid, _gaussian(grid, highest), color=_INK, linewidth=1.4, label=f"ceiling of ε ({highest:.3f})"
        )
        if limit < highest:
            axes.plot(
                grid,
                _gaussian(grid, limit),
                color=_RED,
                linewidth=1.2,
                dashes=(4, 3),
                label=f"limit ({limit:.3f})",
            )
        axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.9, dashes=(1, 2), label="guessing (0.500)")
        for index, each in enumerate(figures.figures):
            xs, ys = zip(*each.roc, strict=True)
            colour = _COLOURS[index % len(_COLOURS)]
            axes.plot(xs, ys, color=colour, linewidth=1.9, marker="o", markersize=2.8, label=_named(each))
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set_xlabel("held-out patients taken for training ones", fontsize=9, color=_MUTED)
        axes.set_ylabel("training patients found", fontsize=9, color=_MUTED)
        axes.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.92, edgecolor="none")
        return png(figure)


def _named(figure: Any) -> str:
    return f"{figure.name} ({figure.auc:.3f})"


def _gaussian(false: Any, auc: float) -> Any:
    """True positive rate of Gaussian scores with this AUC, at false positive rates; 1 for an AUC of 1."""
    if auc >= 1:
        return false * 0 + 1.0
    move = sqrt(2) * NormalDist().inv_cdf(max(auc, 0.5))
    return norm.cdf(norm.ppf(false) + move)


def use(card: ReleaseCard, error: float) -> bytes:
    """What the release is worth at its ε: this run's point alone, other ε would need other runs."""
    released = card.metrics.get("released") or {}
    points = dict(_points(released))
    with plain_fonts():
        figure = Figure(figsize=(5.4, 3.3), dpi=_DPI, facecolor="white")
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
        axes = figure.subplots()
        titled(axes, "Figures of use over ε, this run")
        for index, (name, value) in enumerate(points.items()):
            bar = error if name == "accuracy" and isfinite(error) else 0.0
            axes.errorbar(
                [card.epsilon],
                [value],
                yerr=[1.96 * bar],
                fmt="o",
                color=_COLOURS[index % 5],
                capsize=3,
                label=told_name(name),
            )
        _axes_of_use(axes, card.epsilon)
        return png(figure)


def _points(released: dict[str, Any]) -> list[tuple[str, float]]:
    found = [(name, float(value)) for name, value in released.items()]
    return [(name, value) for name, value in found if isfinite(value)]


def _axes_of_use(axes: Axes, epsilon: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(0.3, epsilon / 2), max(40.0, epsilon * 2))
    axes.set_ylim(-0.02, 1.02)
    ticks = [0.5, 1, 2, 5, 10, 20]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("ε, smaller is more private", fontsize=9, color=_MUTED)
    axes.legend(loc="lower left", fontsize=8, frameon=False)
