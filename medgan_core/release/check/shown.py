"""A check for a person at a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medgan_core.release.check.result import CheckResult, Finding

_COLOURS: dict[Finding, str] = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "yellow",
    "not asked": "dim",
    "not assessed": "dim",
}
SAID = {
    "pass": "pass: the release may go out",
    "fail": "fail: the release may not go out",
    "inconclusive": "inconclusive: the check cannot tell; a person has to answer for it",
}


def show(found: CheckResult, console: Console) -> None:
    """Print every check with its figure, limit, verdict and what to do, and the verdict of all."""
    console.print(table(found))
    for row in found.rows:
        if row.todo and row.verdict in ("fail", "inconclusive"):
            console.print(Text(f"{row.name}: {row.todo}"))
    if found.accepted:
        console.print(Text(f"accepted by {found.accepted}"))
    console.print(Text(SAID[found.verdict], style=_COLOURS[found.verdict]))


def table(found: CheckResult) -> Table:
    """One row for each check."""
    made = Table("check", "figure", "limit", "verdict", title="release check")
    for row in found.rows:
        cells = (Text(cell) for cell in (row.name, row.figure, row.limit))
        made.add_row(*cells, Text(row.verdict, style=_COLOURS[row.verdict]))
    return made
