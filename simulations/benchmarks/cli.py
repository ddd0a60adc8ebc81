"""`medgan-sim bench`: figures of studies, of the private step, and of utility beside published methods."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from typer.core import TyperGroup

from medgan_core.errors import InputError

# torch and Opacus take seconds to import: what needs them is imported in its command.
if TYPE_CHECKING:
    import click


Number = TypeVar("Number", int, float)


class _StudyUnlessNamed(TyperGroup):
    """`bench pneumonia` is `bench study pneumonia`: what is no command is a study."""

    def parse_args(self, ctx: "click.Context", args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["study", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_StudyUnlessNamed, no_args_is_help=True, help="Measure. `bench STUDY` is `bench study STUDY`."
)

Data = Annotated[Path | None, typer.Option(help="Where the data sets are. Default: $MEDGAN_DATA.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="key=value, e.g. privacy.epsilon=4.")]
Public = Annotated[bool, typer.Option("--public-data", help="You declare the real images public.")]
Epsilons = Annotated[
    str, typer.Option(help="Values of ε by commas, inf for no privacy, at the study's own sites.")
]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds, counted from 0.")]


@app.command()
def study(
    study: Annotated[str, typer.Argument(help="A study on public data.")],
    results: Annotated[Path, typer.Option(help="The file for the figures.")] = Path("docs/results.json"),
    seeds: Seeds = 3,
    data: Data = None,
    set_: Settings = None,
) -> None:
    """Run STUDY with several seeds, keep the medians as a row of RESULTS and print the table."""
    from medgan_core.record import read_json
    from simulations.bench import add_row, bench, table
    from simulations.hospitals import Launch, data_root
    from simulations.progress import Terminal

    launch = Launch(data=str(data_root(data).resolve()))
    add_row(results, bench(study, set_ or [], range(seeds), launch, Terminal()))
    typer.echo(table(read_json(results)))


@app.command()
def speed(
    results: Annotated[Path, typer.Option(help="The file for the figures.")] = Path("docs/speed.json"),
) -> None:
    """Time of one private step beside a plain one."""
    from simulations.benchmarks import engine

    engine.keep(results, engine.speed())


@app.command()
def memory(
    results: Annotated[Path, typer.Option(help="The file for the figures.")] = Path("docs/memory.json"),
) -> None:
    """Memory of one private step beside a plain one."""
    from simulations.benchmarks import engine

    engine.keep(results, engine.memory())


@app.command()
def matching(
    results: Annotated[Path, typer.Option(help="The file for the figures.")] = Path("docs/matching.json"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    sides: Annotated[str, typer.Option(help="Pixels a side, by commas.")] = "28,64",
) -> None:
    """Time of one step that matches the generator to what was released, compiled or not."""
    from medgan_core.device import choose
    from simulations.benchmarks import matching as measuring

    asked, place = _numbers("--sides", sides, int), choose(device, "--device")
    measuring.keep(results, measuring.matching(place, asked), place)


@app.command()
def aggregation(
    results: Annotated[Path, typer.Option(help="The file for the figures.")] = Path("docs/aggregation.json"),
) -> None:
    """Memory and speed of the coordinator's aggregation beside numpy's and Flower's."""
    from simulations.benchmarks import aggregation as measuring

    measuring.keep(results, measuring.aggregation())


@app.command()
def ingest(
    slices: Annotated[int, typer.Option(min=8, help="Slices of 512×512 in each loop.")] = 200,
    repeats: Annotated[int, typer.Option(min=1, help="Loops of each kind; the medians count.")] = 3,
    damaged: Annotated[int, typer.Option(min=0, help="Files damaged at random that are read, too.")] = 0,
    results: Annotated[Path, typer.Option(help="The file for the figures.")] = Path("docs/ingest.json"),
) -> None:
    """Reading DICOM beside a loop of pydicom and MONAI; the text check, the cache, and damaged files."""
    from simulations.benchmarks import ingest as measuring

    measuring.keep(results, measuring.measure(slices, repeats, damaged))


@app.command()
def kills(
    kills: Annotated[int, typer.Option(min=1, help="How many must land inside of a phase.")] = 100,
    results: Annotated[
        Path, typer.Option(help="The file for the kills; the histogram goes beside it.")
    ] = Path("docs/kills.json"),
    seed: Annotated[int, typer.Option(help="Draws when exactly in a phase each comes.")] = 0,
    set_: Settings = None,
) -> None:
    """Kill -9 of every process in every phase of a round, and what was lost by it.

    Federations of real processes are played one after the other. What is in RESULTS already counts, so that
    an interrupted benchmark goes on.
    """
    from rich.console import Console

    from simulations.benchmarks.kills.measure import measure, small_study
    from simulations.benchmarks.kills.page import table, write
    from simulations.benchmarks.kills.rows import rows_of

    measure(small_study(set_ or ()), kills, results, seed, typer.echo)
    write(results, rows_of(results))
    Console().print(table(rows_of(results)))


@app.command()
def overhead(
    results: Annotated[Path, typer.Option(help="The file for the figures.")] = Path("docs/overhead.json"),
    rounds: Annotated[int, typer.Option(min=2, help="Training rounds; the first one is not counted.")] = 12,
    set_: Settings = None,
) -> None:
    """Time of a deployed round of 20 MB beside an empty ClientApp that echoes the same payload."""
    from simulations.benchmarks import overhead as measuring

    measuring.keep(results, measuring.overhead(measuring.large_study(rounds, set_ or ()), typer.echo))


@app.command()
def utility(
    studies: Annotated[str, typer.Option(help="Studies on public data, by commas.")] = "pneumonia",
    epsilons: Epsilons = "",
    sites: Annotated[str, typer.Option(help="Numbers of sites by commas, at the study's own ε.")] = "",
    seeds: Seeds = 3,
    methods: Annotated[str, typer.Option(help="Methods by commas. Default: all.")] = "",
    results: Annotated[
        Path, typer.Option(help="The file for the rows; page and pictures go beside it.")
    ] = Path("docs/utility.json"),
    data: Data = None,
    set_: Settings = None,
    public_data: Public = False,
) -> None:
    """Utility of this project and of published methods, side by side.

    Without --epsilons and --sites: ε of 0.5, 1, 2, 4, 10 and inf at the study's own sites, and 1, 3, 10 and
    30 sites at its own ε; with both: all pairs. Rows that are there already are not measured again.
    """
    from simulations.benchmarks.baselines import METHODS
    from simulations.benchmarks.utility.grid import Grid
    from simulations.benchmarks.utility.measure import measure
    from simulations.benchmarks.utility.page import write
    from simulations.benchmarks.utility.rows import add_command
    from simulations.hospitals import Launch, data_root
    from simulations.progress import Terminal

    asked = Grid.of(
        _names(studies),
        _names(methods) or tuple(METHODS),
        _numbers("--epsilons", epsilons, float),
        _numbers("--sites", sites, int),
        seeds,
        set_ or (),
    )
    given = {"--studies": studies, "--epsilons": epsilons, "--sites": sites, "--methods": methods}
    command = _command(given | {"--seeds": str(seeds)}, set_ or (), public_data, "utility")
    launch = Launch(data=str(data_root(data).resolve()), public=public_data)
    measure(asked, results, launch, Terminal())
    add_command(results, command)
    typer.echo(write(results))


@app.command()
def tasks(
    studies: Annotated[str, typer.Argument(help="Studies on public data, by commas.")],
    seeds: Seeds = 3,
    methods: Annotated[str, typer.Option(help="Methods by commas. Default: all of the task.")] = "",
    results: Annotated[Path, typer.Option(help="The file for the rows; the page goes beside it.")] = Path(
        "docs/tasks.json"
    ),
    data: Data = None,
    set_: Settings = None,
    public_data: Public = False,
) -> None:
    """What STUDIES reach beside the rivals of their task: pooled training, classical methods and the like.

    Rows that are there already are not measured again.
    """
    from simulations.benchmarks.tasks.measure import measure
    from simulations.benchmarks.tasks.page import write
    from simulations.benchmarks.tasks.rows import add_command
    from simulations.hospitals import Launch, data_root
    from simulations.progress import Terminal

    launch = Launch(data=str(data_root(data).resolve()), public=public_data)
    settings = sorted(set_ or ())
    for name in _names(studies):
        measure(name, settings, _names(methods), range(seeds), results, launch, Terminal())
        given = {"--methods": methods, "--seeds": str(seeds)}
        add_command(results, _command(given, settings, public_data, "tasks", name))
    typer.echo(write(results))


@app.command()
def audit(
    results: Annotated[
        Path, typer.Option(help="The file for the figures; the table goes into the page beside it.")
    ] = Path("docs/audit.json"),
    audits: Annotated[int, typer.Option(min=1, help="How many of each kind.")] = 20,
) -> None:
    """How much of ε an audit of the mechanism sees, and what the watch of its noise costs."""
    from simulations.benchmarks import audit as measuring

    typer.echo(measuring.keep(results, measuring.figures(audits=audits)))


@app.command()
def attacks(
    results: Annotated[
        Path, typer.Option(help="The file for the figures; page and picture go beside it.")
    ] = Path("docs/attacks.json"),
    data: Data = None,
) -> None:
    """Attacks on a federation: its updates, who trains on what, and patterns planted in patients' images.

    On the published chest X-rays, in five minutes.
    """
    from simulations.benchmarks.attacks.measure import measure
    from simulations.hospitals import Launch, data_root
    from simulations.progress import Terminal

    launch = Launch(data=str(data_root(data).resolve()))
    measure(results, launch, "medgan-sim bench attacks", Terminal().say)


def _command(given: Mapping[str, str], settings: Sequence[str], public: bool, *command: str) -> str:
    """What a person would type for the same rows, wherever data and results are."""
    words = [word for name, text in given.items() if text for word in (name, text)]
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join(["medgan-sim", "bench", *command, *words, *["--public-data"] * public])


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(option: str, text: str, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    try:
        values = tuple(kind(name) for name in _names(text))
    except ValueError:
        values = None
    if values is None or not all(value > 0 for value in values):
        raise InputError(f"{option} {text}: expected numbers above 0 with commas between")
    return values
