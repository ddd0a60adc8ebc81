"""The kills as a table and as a histogram over the phases of a round."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from medgan_core.record import write_atomically
from medgan_core.release.pictures import plain_fonts, png, titled
from simulations.benchmarks.kills.phases import PHASES
from simulations.benchmarks.kills.rows import Kill, summary
from simulations.benchmarks.kills.strikes import PROCESSES

_COLOURS = ("#0b6e99", "#c4561b", "#5b4a9e", "#2f7d4f")


def table(rows: Sequence[Kill]) -> Table:
    """What came of the kills by phase and process, and of all together."""
    lines = summary(rows)
    told = Table(title=headline(rows))
    for name in lines[0] if lines else ():
        told.add_column(name, justify="left" if name in ("phase", "process") else "right")
    for line in lines:
        told.add_row(*(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in line.values()))
    return told


def headline(rows: Sequence[Kill]) -> str:
    """The kills that landed, and what was lost by any of them, in one line."""
    landed = [row for row in rows if row.landed]
    runs = {row.federation for row in rows}
    whole = {row.federation for row in rows if row.completed and row.exact}
    return (
        f"{len(landed)} kills inside of a phase; {len(whole)} of {len(runs)} runs complete, ledgers exact; "
        f"{sum(row.lost > 0 for row in rows)} rounds lost, {sum(row.doubled for row in rows)} double charges"
    )


def histogram(rows: Sequence[Kill]) -> bytes:
    """A PNG: the kills that landed in each phase, one colour for each process that was killed."""
    counts = {(line["phase"], line["process"]): line["kills"] for line in summary(rows)}
    with plain_fonts():
        figure = Figure(figsize=(9.6, 4.8), dpi=100, layout="constrained")
        axes = figure.subplots()
        titled(axes, headline(rows))
        floor = [0] * len(PHASES)
        for process, colour in zip(PROCESSES, _COLOURS, strict=True):
            heights = [counts.get((phase, process), 0) for phase in PHASES]
            axes.bar(PHASES, heights, bottom=floor, color=colour, label=process, width=0.7)
            floor = [low + height for low, height in zip(floor, heights, strict=True)]
        axes.set_ylabel("kills")
        axes.set_ylim(0, max(floor, default=0) * 1.25 + 1)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(title="killed", ncols=len(PROCESSES), frameon=False, loc="upper center", fontsize=9)
        return png(figure)


def write(path: Path, rows: Sequence[Kill]) -> None:
    """The histogram beside the file of the rows, under its name."""
    write_atomically(path.with_suffix(".png"), histogram(rows))
