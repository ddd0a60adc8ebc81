"""The page of the benchmark of tasks: a table for each study, the methods, and the commands."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import isinf
from pathlib import Path
from statistics import fmean

from medgan_core.gan.scores import LARGEST_PSNR
from medgan_core.record import write_atomically
from simulations.benchmarks.tasks import METHODS
from simulations.benchmarks.tasks.rows import Row, commands_of, rows_of

_BEGIN, _END = "<!-- tasks -->", "<!-- /tasks -->"
_HEADS = {
    "psnr": "PSNR (dB)",
    "hausdorff": "95 % Hausdorff (share of the diagonal)",
    **{f"{figure}_gain": f"gain in {figure}" for figure in ("auc", "balanced_accuracy")},
    **{f"{figure}_gain_{end}": end for figure in ("auc", "balanced_accuracy") for end in ("from", "to")},
}
_LEADING = {"anomaly": "auc"}
_SHOWN = {"psnr": LARGEST_PSNR}
"""What a score is multiplied by on the page: it is kept as a share, as it leaves a site."""


def write(path: Path) -> str:
    """Render the rows at `path` as a page beside it, and into their tasks' own pages. Returns the tables."""
    rows = rows_of(path)
    write_atomically(path.with_suffix(".md"), page(rows, commands_of(path)).encode())
    for task in dict.fromkeys(row.task for row in rows):
        own = path.with_name(f"{task}.md")
        if own.is_file():
            text = own.read_text(encoding="utf-8")
            write_atomically(own, filled(text, [row for row in rows if row.task == task]).encode())
    return tables(rows)


def summary(rows: Sequence[Row]) -> str:
    """A line for each study with its settings: what this project reaches, and the best of its rivals."""
    lines = [_line(["study", "ε", "reached", "best rival", "seeds"]), _line(["---"] * 5)]
    for title, part in _by_study(rows):
        if not (own := [row for row in part if row.method == "medgan"]):
            continue
        best = _LEADING.get(own[0].task, next(iter(own[0].scores)))
        names = dict.fromkeys(row.method for row in part if not row.method.startswith("medgan"))
        others = [[row for row in part if row.method == name] for name in names]
        ahead = max(others, key=lambda found: fmean(row.scores[best] for row in found), default=None)
        beside = "–" if ahead is None else f"`{ahead[0].method}`: {_told(ahead)}"
        lines.append(_line([title, _epsilon(own[0].epsilon), _told(own), beside, str(len(own))]))
    return "\n".join(lines)


def _told(rows: Sequence[Row]) -> str:
    """The scores of a method in words, in the order in which they are kept."""
    return ", ".join(
        f"{_HEADS.get(name, name).partition(' (share')[0]} "
        f"{_cell([row.scores[name] for row in rows], _SHOWN.get(name, 1.0))}"
        for name in rows[0].scores
    )


def filled(text: str, rows: Sequence[Row]) -> str:
    """A task's own page with the tables of these rows between the two marks, where it has them."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    return f"{before}{begin}\n{tables(rows, 3)}\n{end}{after}" if end else text


def tables(rows: Sequence[Row], level: int = 2) -> str:
    """A heading of this level and a table for each study with its settings."""
    return "\n\n".join(f"{'#' * level} {title}\n\n{table(part)}" for title, part in _by_study(rows))


def table(rows: Sequence[Row]) -> str:
    """Means over seeds of one study's methods, as a Markdown table; behind ± how far a seed lies off."""
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    heads = ["method", *(_HEADS.get(name, name) for name in names), "ε", "seconds", "processor", "seeds"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for method in METHODS[rows[0].task]:
        if own := [row for row in rows if row.method == method]:
            cells = [_cell([row.scores[name] for row in own], _SHOWN.get(name, 1.0)) for name in names]
            times = [f"{fmean(part):.0f}" for part in ([r.seconds for r in own], [r.processor for r in own])]
            lines.append(_line([method, *cells, _epsilon(own[0].epsilon), *times, str(len(own))]))
    return "\n".join(lines)


def page(rows: Sequence[Row], commands: Sequence[str]) -> str:
    """The whole page."""
    lines = [
        "# Tasks beside their rivals",
        "",
        "Each task's study at its sites, and what it is compared with: the same patients held out, by the",
        "same scores, a patient counting once. Means over seeds; behind ± the largest distance of a seed",
        "from the mean. Seconds are of training and judging on a machine that does other work too,",
        "`processor` is the time that the process itself took.",
        "",
        tables(rows),
        "",
        "## Methods",
        "",
        *_methods(rows),
        "",
        "## Commands",
        "",
        "```bash",
        *commands,
        "```",
    ]
    return "\n".join(lines) + "\n"


def _by_study(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    for (study, settings), part in groupby(rows, lambda row: (row.study, row.settings)):
        yield " ".join([study, *(f"`{setting}`" for setting in settings)]), list(part)


def _methods(rows: Sequence[Row]) -> list[str]:
    """What each method says of itself, in one line."""
    shown = {(row.task, row.method) for row in rows}
    return [
        f"- `{name}` ({task}): {' '.join((judge.__doc__ or '').split())}"
        for task, methods in METHODS.items()
        for name, judge in methods.items()
        if (task, name) in shown
    ]


def _cell(values: Sequence[float], factor: float) -> str:
    middle = fmean(values) * factor
    digits = 2 if factor > 1 else 4
    off = max(abs(value * factor - middle) for value in values)
    return f"{middle:.{digits}f}" + (f" ± {off:.{digits}f}" if len(values) > 1 else "")


def _epsilon(value: float) -> str:
    return "**not private**" if isinf(value) else f"{value:.3g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
