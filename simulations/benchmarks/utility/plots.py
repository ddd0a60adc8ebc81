"""Balanced accuracy over ε and over the number of sites, one panel for each study, with 95 % intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, isinf

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medgan_core.release.pictures import plain_fonts, png, titled
from simulations.benchmarks.baselines import METHODS
from simulations.benchmarks.utility.rows import Row
from simulations.benchmarks.utility.summary import Summary, summaries

_COLOURS = ("#0b6e99", "#6bb3d0", "#5b4a9e", "#a79bd1", "#1b2430", "#c4561b", "#2f7d4f", "#a8326e", "#8a8f98")
_MARKERS = "oovvs^DPX"
_ASIDE = 0.03


@dataclass(frozen=True)
class _Axis:
    """What a picture shows: `along` on its x axis, where `fixed` has one value.

    A method for which `flat` holds does not vary along the axis: it is a line across. Where `anywhere` holds
    its `fixed` value is its own and does not matter.
    """

    name: str
    told: str
    along: Callable[[Summary], float]
    fixed: Callable[[Summary], float]
    flat: Callable[[Summary], bool]
    anywhere: Callable[[Summary], bool]


def _pooled(one: Summary) -> bool:
    return METHODS[one.method].pooled


def _public(one: Summary) -> bool:
    return not METHODS[one.method].private


_EPSILON = _Axis("ε", "{} sites", lambda one: one.epsilon, lambda one: one.sites, _public, _pooled)
_SITES = _Axis("sites", "ε = {}", lambda one: one.sites, lambda one: one.epsilon, _pooled, _public)


def over_epsilon(rows: Sequence[Row]) -> bytes:
    """A PNG with ε on the x axis, at the number of sites that was tried with most values of ε."""
    return _picture(rows, _EPSILON)


def over_sites(rows: Sequence[Row]) -> bytes:
    """A PNG with the number of sites on the x axis, at the ε that was tried with most numbers of sites."""
    return _picture(rows, _SITES)


def _picture(rows: Sequence[Row], axis: _Axis) -> bytes:
    known = [one for one in summaries(rows) if one.method in METHODS]
    studies = _of_most_places(known, axis)
    with plain_fonts():
        figure = Figure(figsize=(7.5 * max(len(studies), 1), 4.8), dpi=100, layout="constrained")
        panels = figure.subplots(1, max(len(studies), 1), squeeze=False)[0]
        for axes, study in zip(panels, studies, strict=False):
            _panel(axes, study, [one for one in known if one.study == study], axis)
        return png(figure)


def _of_most_places(known: Sequence[Summary], axis: _Axis) -> list[str]:
    """The studies with three places along the axis or more, since fewer are no curve; all where none has."""
    places: dict[str, set[float]] = {one.study: set() for one in known}
    for one in known:
        if not axis.flat(one):
            places[one.study].add(axis.along(one))
    return sorted(study for study in places if len(places[study]) >= 3) or sorted(places)


def _panel(axes: Axes, study: str, known: Sequence[Summary], axis: _Axis) -> None:
    at = _widest([one for one in known if not axis.anywhere(one)], axis)
    shown = [one for one in known if axis.anywhere(one) or axis.fixed(one) == at]
    shown = [one for one in shown if isfinite(one.balanced_accuracy.mean)]
    ticks = sorted({axis.along(one) for one in shown if not axis.flat(one)})
    titled(axes, study if at is None else f"{study}, {axis.told.format(_text(at))}")
    for rank, (name, colour, marker) in enumerate(zip(METHODS, _COLOURS, _MARKERS, strict=True)):
        of_method = [one for one in shown if one.method == name]
        for one in filter(axis.flat, of_method):
            axes.axhline(one.balanced_accuracy.mean, color=colour, linestyle="--", linewidth=1.4, label=name)
        if points := [one for one in of_method if not axis.flat(one)]:
            aside = _ASIDE * (rank - len(METHODS) / 2)  # so that intervals do not hide each other
            places = [ticks.index(axis.along(one)) + aside for one in points]
            _curve(axes, name, places, points, colour, marker)
    axes.set_xticks(range(len(ticks)), [_text(tick) for tick in ticks])
    axes.set_xlabel(axis.name)
    axes.set_ylabel("balanced accuracy")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0.0), min(high, 1.0))  # intervals of few seeds reach beyond what a share can be
    if shown:
        axes.legend(fontsize=8, loc="best")


def _curve(
    axes: Axes, name: str, places: Sequence[float], points: Sequence[Summary], colour: str, marker: str
) -> None:
    halves = [one.balanced_accuracy.half for one in points]
    axes.errorbar(
        places,
        [one.balanced_accuracy.mean for one in points],
        [half if isfinite(half) else 0.0 for half in halves],
        color=colour,
        marker=marker,
        markersize=5,
        linewidth=1.6,
        capsize=3,
        label=name,
    )


def _widest(known: Sequence[Summary], axis: _Axis) -> float | None:
    """The fixed value with most places along the axis; of several the largest that is finite."""
    places: dict[float, set[float]] = {}
    for one in known:
        places.setdefault(axis.fixed(one), set()).add(axis.along(one))
    return max(places, key=lambda value: (len(places[value]), isfinite(value), value), default=None)


def _text(value: float) -> str:
    return "∞" if isinf(value) else f"{value:g}"
