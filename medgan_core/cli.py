"""`medgan`: draw images from a release, use it on real ones, check, recall, compare and export it."""

import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medgan_core.errors import InputError
from medgan_core.release.anonymize.commands import anonymize, leak_check
from medgan_core.release.apply.commands import detect, restore, segment, translate
from medgan_core.release.commands import ReleaseFolder, diff, export, recall, verify, warn
from medgan_core.release.dicom.options import Drawing, with_drawing
from medgan_core.terminal import run

# torch and Opacus take seconds to import: what needs them is imported in its command.
if TYPE_CHECKING:
    from medgan_core.release.dicom.delivery import Archive

app = typer.Typer(
    name="medgan",
    help="Use a release: draw synthetic images, or work on real ones; check it, and read its card.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(anonymize)
app.command()(leak_check)
for command in (segment, restore, translate, detect, verify, recall, diff, export):
    app.command()(command)


class Format(StrEnum):
    """How images are written."""

    NPZ = "npz"
    PNG = "png"
    DICOM = "dicom"


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
@with_drawing
def generate(
    release: ReleaseFolder,
    out: Annotated[Path, typer.Option(help="The npz file, or the folder for PNG or DICOM files.")],
    drawing: Drawing,
    kind: Annotated[Format, typer.Option("--format", help="npz, png or dicom.")] = Format.NPZ,
) -> None:
    """Draw synthetic images from a release."""
    wanted = drawing.wanted()
    if kind is not Format.DICOM:
        drawing.refuse_dicom()
    from medgan_core.release.bundle import Release
    from medgan_core.release.export import write_samples

    opened = Release.open(release)
    warn(opened)
    chosen = drawing.chosen_seed()
    if kind is Format.DICOM:
        from medgan_core.release.dicom.drawing import write_release

        count = write_release(out, opened, wanted, chosen, drawing.asked())
    else:
        images, drawn = opened.sample(wanted, chosen, drawing.first)
        form: Literal["png", "npz"] = "png" if kind is Format.PNG else "npz"
        facts, apart = opened.facts, bool(opened.channels)
        write_samples(out, form, images, drawn, facts.classes, opened.card.privacy, apart=apart)
        count = len(images)
    typer.echo(f"{count} images of {opened.card.study} with seed {chosen}: {out}")


@app.command()
@with_drawing
def send(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A folder of synthetic DICOM files, or a release.")
    ],
    drawing: Drawing,
    to: Annotated[str, typer.Option(help="A DICOMweb address, or AET@HOST:PORT.")],
    credentials: Annotated[
        Path | None, typer.Option(help="DICOMweb: a file of mode 0600, user:password or Bearer TOKEN.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="DICOMweb: the server's own CA certificate.")] = None,
    aet: Annotated[str, typer.Option(help="Our own AE title, which a classic PACS must know.")] = "MEDGAN",
) -> None:
    """Store synthetic DICOM files in an archive: those of a folder, or drawn from a release for it."""
    from medgan_core.release.files import MANIFEST

    archive = _archive(to, credentials, ca, aet)
    if not (source / MANIFEST).is_file():
        if drawing.n is not None or drawing.labels is not None:
            raise InputError(f"SOURCE {source.name} is no release: --n and --labels are for drawing from one")
        _deliver(source, archive)
        return
    wanted = drawing.wanted()
    from medgan_core.release.bundle import Release
    from medgan_core.release.dicom.drawing import write_release

    chosen = drawing.chosen_seed()
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "studies"
        write_release(drawn, Release.open(source), wanted, chosen, drawing.asked())
        _deliver(drawn, archive)
    typer.echo(f"drawn with seed {chosen}")


@app.command()
def info(release: ReleaseFolder) -> None:
    """Print the card of a release."""
    from medgan_core.release.bundle import Release
    from medgan_core.release.card_text import words

    text = words(Release.open(release).card)
    if not sys.stdout.isatty():
        typer.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))


def _archive(to: str, credentials: Path | None, ca: Path | None, title: str) -> "Archive":
    """The server that an address names."""
    if "://" not in to:
        if credentials is not None or ca is not None:
            raise InputError(
                "--credentials and --ca are for DICOMweb: a classic PACS knows the AE title alone"
            )
        from medgan_core.release.dicom.cstore import ClassicArchive

        return ClassicArchive.of(to, title)
    from medgan_core.data.pacs.credentials import Credentials
    from medgan_core.release.dicom.stow import DicomWebArchive

    return DicomWebArchive(to, Credentials.read(credentials) if credentials else Credentials(), ca)


def _deliver(folder: Path, archive: "Archive") -> None:
    """Store a folder's files, with a bar for a person."""
    from rich.console import Console
    from rich.progress import Progress

    from medgan_core.release.dicom.delivery import collect, complaint
    from medgan_core.release.dicom.delivery import send as deliver

    items = collect(folder)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("storing", total=len(items))
        failed = deliver(items, archive, lambda _: progress.advance(bar))
    if failed:
        raise complaint(failed, len(items))
    typer.echo(f"{len(items)} files stored")
