"""`medgan-sim`: a whole federation on one machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan_core.config import Study, load_study
from medgan_core.errors import InputError, MedGANError
from medgan_core.terminal import run as run_app

# torch and Opacus take seconds to import: what needs them is imported in its command.
if TYPE_CHECKING:
    from medgan_core.record import RunFolder

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A study file, or the name of a shipped study.")],
    data: Annotated[Path | None, typer.Option(help="Where the data sets are. Default: $MEDGAN_DATA.")] = None,
    out: Annotated[Path, typer.Option(help="Where the run's new folder is made.")] = Path("runs"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. privacy.epsilon=4.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="loop (this process) or flower (Flower's simulation).")
    ] = "loop",
    ledgers: Annotated[Path | None, typer.Option(help="A folder of ledgers that runs share.")] = None,
    public_data: Annotated[
        bool, typer.Option("--public-data", help="You declare the real images public.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved study and its cost.")
    ] = False,
) -> None:
    """Run STUDY to its release; the last line on standard output is the run's folder."""
    from simulations.hospitals import Launch, data_root
    from simulations.shipped import study_path

    resolved = load_study(study_path(study), set_ or ())
    if engine not in ("loop", "flower"):
        raise InputError(f"--engine {engine}: expected loop or flower")
    if dry_run:
        _print_plan(resolved)
        return
    from simulations.course import run_study
    from simulations.progress import Terminal

    launch = Launch(
        data=str(data_root(data).resolve()),
        ledgers=str(ledgers.resolve()) if ledgers else "",
        engine=engine,
        public=public_data,
    )
    with _way_on():
        _show(run_study(resolved, out, launch, Terminal()))


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="The folder of a run that was interrupted.")],
) -> None:
    """Go on with an interrupted run; it ends with the same ε as one that was not.

    From its approval to its end a run holds its whole cost at its sites. Where runs share ledgers
    (--ledgers), what it holds is not free for others until it is resumed to its end or abandoned.
    """
    from simulations.course import resume_run
    from simulations.progress import Terminal

    with _way_on():
        _show(resume_run(folder, Terminal()))


@app.command()
def bench(
    study: Annotated[str, typer.Argument(help="A study on public data; or speed, or memory.")],
    results: Annotated[
        Path | None,
        typer.Option(help="The file for the figures. Default: docs/results.json or docs/WHAT.json."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, counted from 0.")] = 3,
    data: Annotated[Path | None, typer.Option(help="Where the data sets are. Default: $MEDGAN_DATA.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. privacy.mode=off.")] = None,
) -> None:
    """Run STUDY with several seeds, keep the medians as a row of RESULTS and print the table.

    With speed or memory instead of a study: what one private step costs beside a plain one.
    """
    if study in ("speed", "memory"):
        _bench_step(study, results or Path("docs") / f"{study}.json")
        return
    from medgan_core.record import read_json
    from simulations.bench import add_row, table
    from simulations.bench import bench as measure
    from simulations.hospitals import Launch, data_root
    from simulations.progress import Terminal

    launch = Launch(data=str(data_root(data).resolve()))
    results = results or Path("docs/results.json")
    add_row(results, measure(study, set_ or [], range(seeds), launch, Terminal()))
    typer.echo(table(read_json(results)))


def _bench_step(what: str, results: Path) -> None:
    from rich.console import Console

    from simulations.benchmarks import engine

    rows = engine.speed() if what == "speed" else engine.memory()
    engine.write(results, rows)
    engine.show(rows, Console())


@app.command()
def plan(
    study: Annotated[str, typer.Argument(help="A study file, or the name of a shipped study.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. privacy.epsilon=4.")
    ] = None,
) -> None:
    """Show the noise that each strategy would have for STUDY, and which one the planner recommends.

    It knows public facts alone and reads no data. With strategy = "auto" a run follows it.
    """
    from rich.console import Console

    from simulations.planning import advice, show
    from simulations.shipped import study_path

    resolved = load_study(study_path(study), set_ or ())
    show(resolved, advice(resolved), Console())


@contextmanager
def _way_on() -> Iterator[None]:
    """Print what a failed or interrupted run notes on its error: how to go on."""
    try:
        yield
    except (MedGANError, KeyboardInterrupt) as error:
        for note in getattr(error, "__notes__", ()):
            typer.echo(note, err=True)
        raise


@app.command()
def abandon(
    folder: Annotated[Path, typer.Argument(help="The folder of a run that will not be resumed.")],
) -> None:
    """Give up a run: its sites' holds are free again, what was charged stays charged."""
    from simulations.course import abandon_run

    typer.echo(f"abandoned: {abandon_run(folder).path}")


def _print_plan(asked: Study) -> None:
    from medgan_core.privacy.plan import PrivacyPlan
    from simulations.planning import decided

    study = decided(asked)
    plan = PrivacyPlan.of(study, "patient")  # the unit changes no figure
    typer.echo(study.to_toml())
    if asked.strategy == "auto":
        typer.echo(f"# strategy by the planner: {study.strategy}")
    typer.echo(f"# noise of the one-shot query: {plan.one_shot_noise_multiplier:.4g}")
    typer.echo(f"# noise of the steps: {plan.noise_multiplier:.4g}")
    if plan.gate:
        typer.echo(f"# noise of the gate: {plan.gate_noise_multiplier:.4g}")
    typer.echo(f"# noise of the evaluation: {plan.evaluation_noise_multiplier:.4g}")
    typer.echo(f"# epsilon of the run: {plan.epsilon():.4g} at delta {plan.delta:g}")
    if plan.rules is not None:
        typer.echo(f"# without trust in the secure sum: {plan.local_epsilon():.4g}")
    if not plan.private:
        typer.echo("# NOT PRIVATE")


def _show(run: "RunFolder") -> None:
    if not run.study().private:
        typer.echo("NOT PRIVATE: this run had no differential privacy")
    typer.echo(f"samples: {run.path / 'samples.png'}")
    typer.echo(f"report:  {run.path / 'report.html'}")
    typer.echo(f"release: {run.release}")
    typer.echo(str(run.path))


def main() -> None:
    """The console script."""
    run_app(app)
