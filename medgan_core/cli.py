"""`medgan`: draw synthetic images from a release, check it, read its card."""

import secrets
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan_core.errors import InputError
from medgan_core.terminal import run

# torch and Opacus take seconds to import: what needs them is imported in its command.
if TYPE_CHECKING:
    from medgan_core.release.bundle import Release

app = typer.Typer(
    name="medgan",
    help="Synthetic images from a release: draw them, check the release, read its card.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ReleaseFolder = Annotated[Path, typer.Argument(metavar="RELEASE", help="The folder of a release.")]


class Format(StrEnum):
    """How images are written."""

    NPZ = "npz"
    PNG = "png"


def main() -> None:
    """The entry point of `medgan`."""
    run(app)


def _version(asked: bool) -> None:
    if asked:
        from medgan_core.record import environment

        typer.echo(f"medgan {environment()['packages']['medgan-federated']}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def generate(
    release: ReleaseFolder,
    out: Annotated[Path, typer.Option(help="The npz file, or the folder for PNG files.")],
    n: Annotated[int | None, typer.Option("--n", help="How many images, in the card's proportions.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="How many of each class: normal=300,pneumonia=700.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same images.")
    ] = None,
    kind: Annotated[Format, typer.Option("--format", help="npz or png.")] = Format.NPZ,
) -> None:
    """Draw synthetic images from a release."""
    wanted = _wanted(n, labels)
    from medgan_core.release.bundle import Release
    from medgan_core.release.export import write_samples

    opened = Release.open(release)
    _warn(opened)
    chosen = secrets.randbits(63) if seed is None else seed
    images, drawn = opened.sample(wanted, chosen)
    write_samples(out, kind.value, images, drawn, opened.facts.classes, opened.card.privacy)
    typer.echo(f"{len(images)} images of {opened.card.study} with seed {chosen}: {out}")


@app.command()
def verify(release: ReleaseFolder) -> None:
    """Check hashes, receipts and epsilon of a release, offline."""
    from medgan_core.release.verify import verify_release

    verification = verify_release(release)
    for line in verification.lines:
        typer.echo(f"ok  {line}")
    if verification.privacy == "dp":
        promise = f"epsilon {verification.epsilon:.4g} at delta {verification.delta:g}"
        if verification.local_epsilon is not None:
            promise += f"; {verification.local_epsilon:.4g} without trust in the secure sum"
    else:
        promise = "NOT PRIVATE, epsilon is infinite"
    typer.echo(f"verified: {promise}")


@app.command()
def info(release: ReleaseFolder) -> None:
    """Print the card of a release."""
    from medgan_core.release.bundle import Release
    from medgan_core.release.card_text import markdown

    text = markdown(Release.open(release).card)
    if not sys.stdout.isatty():
        typer.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))


def _wanted(n: int | None, labels: str | None) -> int | dict[str, int]:
    """What to draw. Counts of classes go before a number, which must then be their sum."""
    from medgan_core.release.labels import parse_labels

    if labels is None:
        if n is None:
            raise InputError("how many images? Give --n N or --labels CLASS=COUNT,…")
        if n <= 0:
            raise InputError(f"--n {n}: expected 1 or more images")
        return n
    counts = parse_labels(labels)
    if n is not None and n != sum(counts.values()):
        raise InputError(
            f"--n {n}, but --labels asks for {sum(counts.values())}: give one, or make them agree"
        )
    return counts


def _warn(release: "Release") -> None:
    if not release.card.private:
        typer.echo("NOT PRIVATE: this generator was trained without differential privacy", err=True)
