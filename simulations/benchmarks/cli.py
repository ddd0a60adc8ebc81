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
def aggregation(
    results: Annotated[Path, typer.Option(help="The file for the figures.")] = Path("docs/aggregation.json"),
) -> None:
    """Memory and speed of the coordinator's aggregation beside numpy's and Flower's."""
    from simulations.benchmarks import aggregation as measuring

    measuring.keep(results, measuring.aggregation())


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
    command = _command(given | {"--seeds": str(seeds)}, set_ or (), public_data)
    launch = Launch(data=str(data_root(data).resolve()), public=public_data)
    measure(asked, results, launch, Terminal())
    add_command(results, command)
    typer.echo(write(results))


def _command(given: Mapping[str, str], settings: Sequence[str], public: bool) -> str:
    """What a person would type for the same rows, wherever data and results are."""
    words = [word for name, text in given.items() if text for word in (name, text)]
    words += [word for setting in settings for word in ("--set", setting)]
    return shlex.join(["medgan-sim", "bench", "utility", *words, *["--public-data"] * public])


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
