"""The two pictures of a run: a labelled grid of samples, and the curves of its rounds.

Both are drawn with matplotlib's objects alone (Agg, no pyplot, no global figure), and the same arguments give
the same bytes. Fakes and what the sites released are free to show; real images are not: a caller passes them
only where the data are declared public.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from math import inf, isfinite, nan
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]
Series = tuple[list[int], list[float]]
Labelled = tuple[Tensor, Tensor]
"""Images [n, channels, height, width] in [-1, 1] and their labels [n]."""

NOT_PRIVATE = "NOT PRIVATE"
_COLUMNS_ALONE, _COLUMNS_BESIDE = 16, 10
_DPI, _LEAST_CELL, _GAP, _LEAST_WIDTH = 100, 56, 3, 960
_TOP, _BOTTOM, _SIDE, _BETWEEN = 84, 48, 16, 28
_INK, _MUTED, _EMPTY, _RED = "#1b2430", "#5b6776", 236, "#b3261e"
_COLOURS = ("#0b6e99", "#c4561b", "#5b4a9e", "#2f7d4f", "#a8326e", "#7a6a1f")
_NAMED_SERIES = 6
_PRINTED = 200
"""Dots per inch of pictures that are printed small."""
_MOST_CHANNELS, _LEAST_CHANNEL, _LEAST_PANEL = 8, 64, 128


def sample_grid(
    synthetic: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    real: tuple[Tensor, Tensor] | None,
    private: bool,
    epsilon: float,
    delta: float,
    unit: str,
    title: str,
) -> bytes:
    """A PNG with one row for each class: up to 16 synthetic images, or up to 10 real and 10 synthetic ones.

    `synthetic` [n, c, h, w] in [-1, 1] (values outside are clamped, nan is black), c of 1 or 3; `labels` [n]
    int64 in [0, len(classes)); the first images of each class are shown. `real` is (images, labels) of the
    same kind, only where the data are declared public. `unit` ("patient" or "image"), `epsilon` ≥ 0 and
    `delta` make the footer; without privacy it is a red bar.
    """
    heads = (
        [("synthetic", synthetic, labels)]
        if real is None
        else [("real", *real), ("synthetic", synthetic, labels)]
    )
    columns = _COLUMNS_ALONE if real is None else _COLUMNS_BESIDE
    panels = [(head, _mosaic(images, of, len(classes), columns)) for head, images, of in heads]
    names = [_legible(name, 22) for name in classes]
    guarantee = f"ε = {epsilon:.3g}, δ = {delta:g}, for each {unit}".replace("e-0", "e-")
    return _grid(panels, names, title, guarantee if private else "")


def panel_grid(
    panels: Sequence[tuple[str, Tensor]],
    *,
    private: bool,
    epsilon: float,
    delta: float,
    unit: str,
    title: str,
    names: Sequence[str] = (),
) -> bytes:
    """A PNG with a column for each panel and a row for each image, [n, c, h, w] in [-1, 1] each.

    `names` are those of the rows, else they are numbered. Patients' images only where the data are declared
    public. The rest is as `sample_grid` says.
    """
    rows = max(len(images) for _, images in panels)
    shown = [(head, _enlarged(images, _LEAST_PANEL // images.shape[3])) for head, images in panels]
    columns = [(head, _mosaic(images, torch.arange(len(images)), rows, 1)) for head, images in shown]
    guarantee = f"ε = {epsilon:.3g}, δ = {delta:g}, for each {unit}".replace("e-0", "e-")
    said = [_legible(name, 22) for name in names] or [f"{row + 1}" for row in range(rows)]
    return _grid(columns, said, title, guarantee if private else "")


def side_by_side(images: Tensor) -> Tensor:
    """The channels of images [n, c, h, w] beside each other in grey, [n, 1, H, W]: at most 8, evenly chosen.

    Small ones are enlarged to 64 pixels or more.
    """
    shown = torch.linspace(0, images.shape[1] - 1, min(images.shape[1], _MOST_CHANNELS)).round().long()
    row = torch.cat(list(images[:, shown].split(1, dim=1)), dim=3)
    return _enlarged(row, _LEAST_CHANNEL // row.shape[2])


def _enlarged(images: Tensor, scale: int) -> Tensor:
    """Every pixel as a square of `scale` a side, of 1 at least."""
    return images.repeat_interleave(max(1, scale), 2).repeat_interleave(max(1, scale), 3)


def curves(
    history: Sequence[Mapping[str, Any]],
    receipts_epsilon_by_round: Sequence[tuple[int, Mapping[str, float]]],
    *,
    private: bool,
) -> bytes:
    """A PNG of what the sites reported over the rounds: G's loss, D's accuracy on fakes, ε at each site.

    `history` is that of a `FederationState`; `receipts_epsilon_by_round` holds, for each round, ε of the
    training account of every site after it. Without adversarial rounds it shows the embedding's mismatch and
    ε. Figures that are not finite are left out; a panel without any says "not assessed".
    """
    trained = [entry for entry in history if "generator_loss" in entry]
    mismatch = next((float(entry["mismatch"]) for entry in history if "mismatch" in entry), nan)
    panels: list[Callable[[Axes], None]] = []
    if isfinite(mismatch):
        panels = [lambda axes: _number(axes, "Embedding mismatch", mismatch)]
    if trained:
        panels = [lambda axes: _loss(axes, trained), lambda axes: _accuracy(axes, trained)]
    panels.append(lambda axes: _epsilon(axes, _by_site(receipts_epsilon_by_round), private))
    with plain_fonts():
        figure = Figure(figsize=(4.2 * len(panels), 3.5), dpi=_DPI, facecolor="white")
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
        for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            draw(axes)
        if trained:
            start = f" (embedding mismatch {mismatch:.3g})" if isfinite(mismatch) else ""
            figure.supxlabel(f"round; 0 is the one-shot start{start}", fontsize=9, color=_MUTED)
        return png(figure)


def epsilon_picture(spent: Sequence[tuple[int, Mapping[str, float]]]) -> bytes:
    """A PNG of ε at each site over the rounds; `spent` is as `curves` takes it."""
    with plain_fonts():
        figure = Figure(figsize=(6.4, 3.4), dpi=_PRINTED, facecolor="white")
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
        axes = figure.subplots()
        _epsilon(axes, _by_site(spent), private=True)
        if len(spent) > 1:
            axes.set_xlabel("round; 0 is the one-shot start", fontsize=9, color=_MUTED)
        return png(figure)


def _grid(panels: Sequence[tuple[str, Pixels]], names: Sequence[str], title: str, guarantee: str) -> bytes:
    """Panels side by side under a title; without a guarantee it is NOT PRIVATE."""
    left = _SIDE + 14 + 10 * max(map(len, names), default=0)
    right = left + sum(panel.shape[1] for _, panel in panels) + _BETWEEN * (len(panels) - 1)
    tall = panels[0][1].shape[0]
    width, height = max(right + _SIDE, _LEAST_WIDTH), _TOP + tall + _BOTTOM
    with plain_fonts():
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
        write = _writer(figure, width, height)
        write(_SIDE, 24, _legible(title, width // 12), size=14, weight="bold")
        _draw_panels(figure, write, panels, left, height)
        for row, name in enumerate(names):
            write(left - 12, _TOP + (row + 0.5) * tall / len(names), name, size=12, ha="right")
        _footer(figure, write, (width, height), guarantee)
        return png(figure)


def _mosaic(images: Tensor, labels: Tensor, classes: int, columns: int) -> Pixels:
    """Images [n, c, h, w] as one picture [H, W, 3], a row for each class; cells without an image are grey."""
    height, width = (int(side) for side in images.shape[2:])
    scale = max(1, _LEAST_CELL // height)
    rows = [images[labels == label][:columns] for label in range(classes)]
    most = max(1, *(len(row) for row in rows))
    high, wide = height * scale + _GAP, width * scale + _GAP
    canvas: Pixels = np.full((classes * high - _GAP, most * wide - _GAP, 3), 255, dtype=np.uint8)
    for top, row in enumerate(rows):
        for left in range(most):
            cell = _cell(row[left], scale) if left < len(row) else np.uint8(_EMPTY)
            canvas[top * high : top * high + high - _GAP, left * wide : left * wide + wide - _GAP] = cell
    return canvas


def _cell(image: Tensor, scale: int) -> Pixels:
    """One image [c, h, w] in [-1, 1] as [h * scale, w * scale, 3], every pixel a square."""
    shown = image.detach().cpu().float().nan_to_num(-1.0, 1.0, -1.0).clamp(-1, 1)
    grey = ((shown + 1) * 127.5).round().to(torch.uint8).expand(3, -1, -1)
    pixels: Pixels = grey.permute(1, 2, 0).numpy()
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def _draw_panels(
    figure: Figure, write: Callable[..., None], panels: Sequence[tuple[str, Pixels]], left: int, height: int
) -> None:
    for head, panel in panels:
        figure.figimage(panel, left, height - _TOP - panel.shape[0], origin="upper")
        write(left, _TOP - 16, head, size=12, color=_MUTED, weight="bold")
        left += panel.shape[1] + _BETWEEN


def _footer(figure: Figure, write: Callable[..., None], size: tuple[int, int], guarantee: str) -> None:
    width, height = size
    if guarantee:
        said = (
            f"Differential privacy: {guarantee} (add or remove one). Synthetic images are not for diagnosis."
        )
        write(_SIDE, height - 22, said, size=11, color=_MUTED)
        return
    bar = Rectangle((0, 0), 1, 34 / height, transform=figure.transFigure, facecolor=_RED, linewidth=0)
    figure.add_artist(bar)
    said = f"{NOT_PRIVATE}: trained without differential privacy. Not for diagnosis."
    write(width / 2, height - 17, said, size=12, color="white", weight="bold", ha="center")


def _writer(figure: Figure, width: int, height: int) -> Callable[..., None]:
    """A pen in pixels from the top left."""

    def write(x: float, y: float, text: str, *, size: float, color: str = _INK, **how: Any) -> None:
        figure.text(x / width, 1 - y / height, text, fontsize=size, color=color, va="center", **how)

    return write


def _loss(axes: Axes, trained: Sequence[Mapping[str, Any]]) -> None:
    titled(axes, "Generator loss")
    _line(axes, [e["round"] for e in trained], [float(e["generator_loss"]) for e in trained])


def _accuracy(axes: Axes, trained: Sequence[Mapping[str, Any]]) -> None:
    titled(axes, "Discriminator accuracy on fakes")
    values = [float(e["discriminator_accuracy_on_fakes"]) for e in trained]
    axes.axhline(0.5, color=_MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_ylim(-0.03, 1.03)
    _line(axes, [e["round"] for e in trained], values)


def _epsilon(axes: Axes, series: Mapping[str, Series], private: bool) -> None:
    if not private:
        return _words(axes, "Privacy spent", NOT_PRIVATE, "ε is infinite", _RED)
    if not series:
        return _words(axes, "Privacy spent", "not assessed")
    titled(axes, "Privacy spent (ε of training patients)")
    if all(len(rounds) == 1 for rounds, _ in series.values()):
        return _bars(axes, {label: values[0] for label, (_, values) in series.items()})
    for index, (label, (rounds, values)) in enumerate(series.items()):
        named = label if len(series) <= _NAMED_SERIES else None
        _line(axes, rounds, values, _COLOURS[index % len(_COLOURS)], named)
    axes.set_ylim(0, 1.15 * max(max(values) for _, values in series.values()) or 1.0)
    if len(series) <= _NAMED_SERIES:
        axes.legend(loc="lower right", fontsize=9, frameon=False)
    return None


def _bars(axes: Axes, spent: Mapping[str, float]) -> None:
    """ε by site where there is but one round to show."""
    names = [_legible(label, 18) for label in spent]
    drawn = axes.barh(range(len(names)), list(spent.values()), height=0.5, color=_COLOURS[0])
    axes.bar_label(drawn, fmt="%.3g", padding=4, fontsize=9, color=_INK)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 2) - 0.4, -0.6)
    axes.set_xlim(0, 1.2 * max(spent.values()) or 1.0)
    axes.grid(visible=False)


def _line(
    axes: Axes,
    rounds: Sequence[int],
    values: Sequence[float],
    colour: str = _COLOURS[0],
    label: str | None = None,
) -> None:
    if not any(map(isfinite, values)):
        axes.text(0.5, 0.3, "not assessed", transform=axes.transAxes, ha="center", color=_MUTED)
    kept = [value if isfinite(value) else nan for value in values]
    marker = "o" if len(kept) <= 40 else ""
    axes.plot(rounds, kept, marker=marker, markersize=4, linewidth=1.8, color=colour, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def _by_site(spent: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, Series]:
    """Finite ε over rounds; sites of one series, as under one plan, are one line with all their names."""
    of_site: dict[str, list[tuple[int, float]]] = {}
    for number, by_site in sorted(spent, key=lambda entry: entry[0]):
        for site, value in by_site.items():
            if -inf < value < inf:
                of_site.setdefault(site, []).append((number, float(value)))
    alike: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for site in sorted(of_site):
        alike.setdefault(tuple((number, round(value, 9)) for number, value in of_site[site]), []).append(site)
    return {
        _together(sites, len(of_site)): ([n for n, _ in s], [v for _, v in s]) for s, sites in alike.items()
    }


def _together(sites: Sequence[str], of: int) -> str:
    if len(sites) == 1:
        return f"site {_legible(sites[0], 20)}"
    if len(sites) == of:
        return f"all {of} sites"
    shown = ", ".join(_legible(site, 12) for site in sites[:3])
    return f"sites {shown}" + (f" and {len(sites) - 3} more" if len(sites) > 3 else "")


def _number(axes: Axes, title: str, value: float) -> None:
    _words(axes, title, f"{value:.3g}" if isfinite(value) else "not assessed", "after the one-shot start")


def _words(axes: Axes, title: str, large: str, small: str = "", colour: str = _INK) -> None:
    """A panel of words, for one figure that needs no axes."""
    axes.set_title(title, fontsize=11, color=_INK, loc="center", pad=10)
    axes.set_axis_off()
    axes.text(0.5, 0.56, large, transform=axes.transAxes, ha="center", va="center", fontsize=22, color=colour)
    axes.text(0.5, 0.36, small, transform=axes.transAxes, ha="center", va="center", fontsize=10, color=_MUTED)


def titled(axes: Axes, title: str) -> None:
    """Give a panel its title and the look of all our curves."""
    axes.set_title(title, fontsize=11, color=_INK, loc="left", pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b8c0ca")
    axes.tick_params(colors=_MUTED, labelsize=9)
    axes.grid(color="#e6eaef", linewidth=0.8)
    axes.set_axisbelow(True)


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(int(code) for code in get_font(findfont("DejaVu Sans")).get_charmap())


def _legible(text: str, most: int) -> str:
    """At most `most` characters that the font has, with no mathematics in them."""
    flat = "".join(c if ord(c) in _glyphs() else "?" for c in " ".join(text.split()))
    cut = flat if len(flat) <= most else f"{flat[: most - 1]}…"
    return cut.replace("$", r"\$")


@contextmanager
def plain_fonts() -> Iterator[None]:
    """A person's own matplotlibrc may not change a run's pictures."""
    with rc_context({"font.family": ["DejaVu Sans"], "text.usetex": False, "axes.unicode_minus": True}):
        yield


def png(figure: Figure) -> bytes:
    """The figure as a file's bytes, the same at every call."""
    stream = BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()
