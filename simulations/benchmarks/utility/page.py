"""The page of the benchmark of utility: tables, pictures, methods and the commands that made them."""

from collections.abc import Sequence
from math import isfinite, isinf
from pathlib import Path

from medgan_core.record import write_atomically
from simulations.benchmarks.baselines import METHODS
from simulations.benchmarks.utility.plots import over_epsilon, over_sites
from simulations.benchmarks.utility.rows import Row, commands_of, rows_of
from simulations.benchmarks.utility.summary import summaries

_PICTURES = {"epsilon": over_epsilon, "sites": over_sites}


def write(path: Path) -> str:
    """Render the rows at `path` beside it: a page and two pictures of the same name. Returns the tables."""
    rows = rows_of(path)
    names = {kind: f"{path.stem}-{kind}.png" for kind in _PICTURES}
    for kind, draw in _PICTURES.items():
        write_atomically(path.with_name(names[kind]), draw(rows))
    text = page(rows, commands_of(path), tuple(names.values()))
    write_atomically(path.with_suffix(".md"), text.encode())
    return tables(rows)


def tables(rows: Sequence[Row]) -> str:
    """A heading and a table for each study."""
    studies = dict.fromkeys(one.study for one in summaries(rows))
    return "\n\n".join(f"## {study}\n\n{table(rows, study)}" for study in studies)


def table(rows: Sequence[Row], study: str) -> str:
    """The summaries of one study as a Markdown table; a column of published figures where one is needed."""
    of_study = [one for one in summaries(rows) if one.study == study]
    published = any(isfinite(one.published) for one in of_study)
    heads = ["sites", "ε", "method", "accuracy", "balanced accuracy", "AUC", "seeds", "ε charged", "seconds"]
    heads += ["published accuracy"] if published else []
    lines = [_line(heads), _line(["---"] * len(heads))]
    for one in of_study:
        cells = [
            str(one.sites),
            _epsilon(one.epsilon),
            one.method,
            *map(str, (one.accuracy, one.balanced_accuracy, one.auc, one.seeds)),
            _epsilon(one.spent),
            f"{one.seconds:.0f}",
        ]
        cells += [f"{one.published:.3f}" if isfinite(one.published) else ""] if published else []
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _epsilon(value: float) -> str:
    return "**not private**" if isinf(value) else f"{value:.3g}"


def page(rows: Sequence[Row], commands: Sequence[str], pictures: Sequence[str]) -> str:
    """The whole page: what was done, the pictures, a table for each study, the methods, the commands."""
    lines = [
        "# Utility beside published methods",
        "",
        "A fixed small classifier is trained on synthetic images and judged on real patients who were",
        "held out. All methods have the same data, split by patient, ε, δ, unit, accountant and number",
        "of synthetic images. Means over seeds with 95 % intervals (Student's t); seconds are of training",
        "alone, and depend on what else the machine does. ε charged is what the sites' ledgers say.",
        "",
        *(f"![{picture}]({picture})" for picture in pictures),
    ]
    lines += ["", tables(rows)]
    if any(isfinite(one.published) for one in summaries(rows)):
        lines += [
            "",
            "Published accuracy (DPImageBench, https://arxiv.org/abs/2503.14681, and of `dp-gan` at ε = 10",
            "its authors', https://arxiv.org/abs/2302.02936: one site, another classifier) stands where",
            "ours is not within two points of it.",
        ]
    lines += ["", "## Methods", "", *_methods(rows), "", "## Commands", "", "```bash", *commands, "```"]
    return "\n".join(lines) + "\n"


def _methods(rows: Sequence[Row]) -> list[str]:
    """The first line of what each method says of itself."""
    shown = {row.method for row in rows}
    return [
        f"- `{name}`: {(method.train.__doc__ or '').splitlines()[0]}"
        for name, method in METHODS.items()
        if name in shown
    ]
