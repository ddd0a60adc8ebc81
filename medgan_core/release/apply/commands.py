"""`medgan segment`, `restore`, `translate` and `detect`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medgan_core.errors import DataError, InputError

# torch and MONAI take seconds to import: what needs them is imported where it is used.
if TYPE_CHECKING:
    from medgan_core.release.apply.model import Model

_SHOWN = 20
ReleaseFolder = Annotated[Path, typer.Argument(metavar="RELEASE", help="The folder of a release.")]
In = Annotated[
    Path, typer.Argument(metavar="IN", help="DICOM, NIfTI, PNG, JPEG, TIFF or npz: a file or a folder.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="A new or an empty folder.")]


On = Annotated[str, typer.Option("--device", help="auto (a GPU where there is one), cpu, cuda or cuda:N.")]


def segment(
    release: ReleaseFolder,
    source: In,
    out: Out,
    label: Annotated[str, typer.Option(help="The name of what is found, such as lung.")] = "",
    code: Annotated[
        str, typer.Option(help="DICOM: its code, as VALUE^SCHEME^MEANING: 39607008^SCT^Lung.")
    ] = "",
    device: On = "auto",
) -> None:
    """Draw the masks of images: DICOM SEG, NIfTI, PNG or npz."""
    from medgan_core.device import choose
    from medgan_core.release.apply.model import Model, opened

    model = Model(
        opened(release, "segment"), choose(device, "--device"), label=_label(label), code=_code(code)
    )
    _run(model, source, out)


def restore(
    release: ReleaseFolder,
    source: In,
    out: Out,
    noise: Annotated[
        float | None, typer.Option(help="Remove noise of this deviation, a share of the range: 0.1.")
    ] = None,
    blur: Annotated[float | None, typer.Option(help="Undo a blur of this deviation, in pixels: 1.5.")] = None,
    holes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Fill in where this mask is not 0: PNG, NIfTI, npz.")
    ] = None,
    scale: Annotated[int | None, typer.Option(help="Enlarge images so many times: 2 or 4.")] = None,
    device: On = "auto",
) -> None:
    """Restore images: remove noise or blur, fill in holes, or enlarge them, as the release was trained."""
    from medgan_core.device import choose
    from medgan_core.release.apply.damage import damage_of
    from medgan_core.release.apply.model import Model, opened

    found = opened(release, "restore")
    damage = damage_of(found.facts.mapping.corruption, noise, blur, holes, scale)
    _run(Model(found, choose(device, "--device"), damage), source, out)


def translate(release: ReleaseFolder, source: In, out: Out, device: On = "auto") -> None:
    """Draw another modality of images, such as FLAIR of T1."""
    from medgan_core.device import choose
    from medgan_core.release.apply.model import Model, opened

    _run(Model(opened(release, "translate"), choose(device, "--device")), source, out)


def detect(release: ReleaseFolder, source: In, out: Out, device: On = "auto") -> None:
    """Say how unlike normal images are: a heat map each, and a score in scores.csv."""
    from medgan_core.device import choose
    from medgan_core.release.apply.model import Model, opened

    _run(Model(opened(release, "detect"), choose(device, "--device")), source, out)


def _label(text: str) -> str:
    if len(text) > 64 or not text.isprintable():
        raise InputError(f"--label {text[:80]!r}: expected at most 64 characters of one line")
    return text


def _code(text: str) -> tuple[str, str, str] | None:
    if not text:
        return None
    parts = text.split("^")
    if len(parts) != 3 or not all(parts) or len(parts[0]) > 16 or len(parts[1]) > 16 or len(parts[2]) > 64:
        raise InputError(f"--code {text!r}: expected VALUE^SCHEME^MEANING, such as 39607008^SCT^Lung")
    return parts[0], parts[1], parts[2]


def _run(model: "Model", source: Path, out: Path) -> None:
    """Use it, with a bar for a person, and say what became of every file that was not used."""
    from rich.console import Console
    from rich.progress import Progress

    from medgan_core.release.apply.run import apply_to

    if not model.release.card.private:
        typer.echo("NOT PRIVATE: this network was trained without differential privacy", err=True)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(model.origin().words)
        outcome = apply_to(
            model, source, out, lambda done, total: progress.update(bar, completed=done, total=total)
        )
    for name, why in outcome.left[:_SHOWN]:
        typer.echo(f"left out: {name}: {why}", err=True)
    if len(outcome.left) > _SHOWN:
        typer.echo(f"left out: {len(outcome.left) - _SHOWN} more", err=True)
    for name, why in outcome.failed:
        typer.echo(f"skipped: {name}: {why}", err=True)
    typer.echo(f"{outcome.images} images of {outcome.cases} files {model.origin().words}: {out}")
    if outcome.failed:
        total = outcome.cases + len(outcome.failed)
        raise DataError(f"{len(outcome.failed)} of {total} were skipped: they are named above")
