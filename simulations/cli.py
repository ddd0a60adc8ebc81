"""`medgan-sim`: a whole federation on one machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan_core.config import Study, load_study
from medgan_core.errors import InputError, MedGANError
from medgan_core.memory import keep_freed_memory
from medgan_core.release.check.options import PolicyFile, ShowPolicy
from medgan_core.terminal import run as run_app
from simulations.benchmarks.cli import app as bench

# torch and Opacus take seconds to import: what needs them is imported in its command.
if TYPE_CHECKING:
    from medgan_core.record import RunFolder

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.add_typer(bench, name="bench")


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
    device: Annotated[
        str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:N.")
    ] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved study and its cost.")
    ] = False,
) -> None:
    """Run STUDY to its release; the last line on standard output is the run's folder."""
    from simulations.hospitals import Launch, data_root
    from simulations.shipped import study_path

    resolved = load_study(study_path(study), set_ or ())
    launch = Launch(
        data=str(data_root(data).resolve()),
        ledgers=str(ledgers.resolve()) if ledgers else "",
        engine=engine,
        public=public_data,
        device=device,
    )
    launch.check()
    if dry_run:
        _print_plan(resolved)
        return
    from simulations.course import run_study
    from simulations.progress import Terminal

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
def federation(
    study: Annotated[str, typer.Argument(help="A study file, or the name of a shipped study.")],
    data: Annotated[Path | None, typer.Option(help="Where the data sets are. Default: $MEDGAN_DATA.")] = None,
    out: Annotated[Path, typer.Option(help="Where the federation's new folder is made.")] = Path("runs"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. privacy.epsilon=4.")
    ] = None,
) -> None:
    """Play STUDY through with real processes: a coordinator and its hospitals, over TLS on this machine.

    The last line on standard output is the folder with all of them and the release.
    """
    from simulations.federation import run_federation
    from simulations.hospitals import Launch, data_root
    from simulations.shipped import study_path

    resolved = load_study(study_path(study), set_ or ())
    launch = Launch(data=str(data_root(data).resolve()))
    typer.echo(run_federation(resolved, out, launch, typer.echo))


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

    from server.planning import advice, decided
    from simulations.planning import show
    from simulations.shipped import study_path

    resolved = load_study(study_path(study), set_ or ())
    if not resolved.free_fakes:
        typer.echo(f"# task {resolved.task} has no strategy to choose: its fakes are made of patients")
        _print_noise(decided(resolved))
        return
    show(resolved, advice(resolved), Console())


@app.command()
def audit(
    study: Annotated[str, typer.Argument(help="A study file, a shipped study, or the folder of a run.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, e.g. privacy.epsilon=4.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
) -> None:
    """Is STUDY as private as it says? Exits with 0 passed, 1 failed, 4 inconclusive.

    The mechanism is tried on made-up patients; of a run its ledgers and its noise are looked at too.
    """
    from client.audit_command import show
    from medgan_core.privacy.audit.run import EXIT_CODES
    from simulations.auditing import audit_study

    report = audit_study(study, set_ or (), (lambda line: None) if as_json else typer.echo)
    show(report, as_json)
    raise typer.Exit(EXIT_CODES[report.verdict])


@app.command("release-check")
def release_check(
    folder: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="The folder of a finished run.")
    ] = None,
    policy: PolicyFile = None,
    show_policy: ShowPolicy = False,
) -> None:
    """May the release of RUN go out? Exits with 0 pass, 1 fail, 3 inconclusive.

    The release is written anew with what was found: card.json, card.md, report.html and report.pdf.
    """
    from medgan_core.record import RunFolder
    from medgan_core.release.check.options import asked_policy, check_and_show
    from simulations.hospitals import release_key

    asked = asked_policy(policy, show_policy)
    if folder is None:
        raise InputError("RUN is missing: expected the folder of a finished run")
    run = RunFolder.open(folder)
    if not (run.release / "manifest.json").is_file():
        raise InputError(f"RUN {folder.name} has no release yet: medgan-sim resume {folder.name}")
    check_and_show(run.release, asked, release_key(run))


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
    from server.planning import decided

    study = decided(asked)
    typer.echo(study.to_toml())
    if asked.strategy == "auto":
        typer.echo(f"# strategy by the planner: {study.strategy}")
    _print_noise(study)


def _print_noise(study: Study) -> None:
    from medgan_core.privacy.plan import PrivacyPlan

    plan = PrivacyPlan.of(study, "patient")  # the unit changes no figure
    if study.free_fakes:
        typer.echo(f"# noise of the one-shot query: {plan.one_shot_noise_multiplier:.4g}")
    typer.echo(f"# noise of the steps: {plan.noise_multiplier:.4g}")
    if plan.gate:
        typer.echo(f"# noise of the gate: {plan.gate_noise_multiplier:.4g}")
    typer.echo(f"# noise of the evaluation: {plan.evaluation_noise_multiplier:.4g}")
    if plan.attack_size:
        typer.echo(f"# noise of the attack: {plan.attack_noise_multiplier:.4g}")
        typer.echo(f"# noise of its control: {plan.control_noise_multiplier:.4g}")
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
    """The command with the process's arguments."""
    run_app(app)


def launch() -> None:
    """The console script."""
    keep_freed_memory()
    main()
