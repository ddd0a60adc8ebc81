"""`medgan-client pull` as a person sees it: progress, then what came and what was refused, in counts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client.folder import SiteFolder

if TYPE_CHECKING:
    from client.pulling import Pulled
    from medgan_core.data.pacs.pull import Progress

_HERE = Path()


def pull_command(
    site: Annotated[
        Path, typer.Option("--site", envvar="MEDGAN_SITE", help="The folder that init made.")
    ] = _HERE,
    again: Annotated[bool, typer.Option("--again", help="Fetch all objects again, and compare.")] = False,
    afresh: Annotated[bool, typer.Option("--afresh", help="Forget what was pulled, and begin anew.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Be content with what came where some series fail.")
    ] = False,
) -> None:
    """Take the images of [source] in site.toml out of the archive; what is here already is not fetched."""
    from client.pulling import pull_site

    folder = SiteFolder.open(site)
    with _shown() as tell:
        pulled = pull_site(folder, tell, again=again, afresh=afresh, partial=partial)
    for line in told(pulled):
        typer.echo(line)


def told(pulled: "Pulled") -> Iterator[str]:
    """Counts and reasons: nothing here is of a single patient."""
    progress = pulled.progress
    yield (
        f"{progress.done} of {progress.series} series are here, {progress.known} of them from before; "
        f"{progress.objects} objects received, {progress.bytes / 1e6:.1f} MB"
    )
    for why, count in sorted(progress.left_out.items()):
        yield f"not asked for: {count} studies or series, by {why}"
    for why, count in pulled.refused.items():
        yield f"refused: {count} objects, by {why}"
    if progress.failed:
        yield f"missing: {progress.failed} series did not come whole ({progress.why})"
    yield f"{pulled.images} images of {pulled.patients} patients; a daemon reads them at its next start"


@contextmanager
def _shown() -> Iterator[Callable[["Progress"], None]]:
    """A bar on a terminal, and nothing in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("series"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[came]}"))
    console = Console(stderr=True)
    with Bar(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("series", total=None, came="")

        def tell(progress: "Progress") -> None:
            came = f"{progress.objects} objects, {progress.bytes / 1e6:.1f} MB"
            bar.update(task, total=progress.series, completed=progress.done, came=came)

        yield tell
