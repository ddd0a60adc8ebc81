"""The options of whoever draws images from a release, maybe as DICOM: one block for all commands."""

import inspect
import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from medgan_core.errors import InputError

# torch, pydicom and highdicom take seconds to import: what needs them is imported where it is used.
if TYPE_CHECKING:
    from medgan_core.release.dicom.drawing import Asked


class Modality(StrEnum):
    """What kind of DICOM images are written."""

    CT = "CT"
    MR = "MR"
    DX = "DX"
    SC = "SC"


class Side(StrEnum):
    """Of a paired body part."""

    LEFT = "L"
    RIGHT = "R"


Number = Annotated[int | None, typer.Option("--n", help="How many images, in the card's proportions.")]
Labels = Annotated[str | None, typer.Option(help="How many of each class: normal=300,pneumonia=700.")]
Seed = Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same images.")]
First = Annotated[int, typer.Option(min=0, help="The number of the first image among those of the seed.")]
Kind = Annotated[
    Modality | None, typer.Option(case_sensitive=False, help="DICOM: that of the release unless given.")
]
Slices = Annotated[
    int, typer.Option("--slices-per-series", min=1, help="DICOM: so many images of a class make a series.")
]
Spacing = Annotated[float | None, typer.Option(help="DICOM: millimetres between pixels.")]
Thickness = Annotated[float | None, typer.Option(help="DICOM: millimetres of a slice of CT or MR.")]
BodyPart = Annotated[str | None, typer.Option(help="DICOM: a code such as CHEST (the default) or BRAIN.")]
Laterality = Annotated[Side | None, typer.Option(help="DICOM: the side of a paired body part.")]


@dataclass(frozen=True)
class Drawing:
    """What to draw: which images of which seed, and as which kind of DICOM."""

    n: Number = None
    labels: Labels = None
    seed: Seed = None
    first: First = 0
    modality: Kind = None
    slices: Slices = 1
    spacing: Spacing = None
    thickness: Thickness = None
    body_part: BodyPart = None
    laterality: Laterality = None

    def wanted(self) -> int | dict[str, int]:
        """How many, or how many of each class. Counts of classes go before a number, their sum."""
        from medgan_core.release.labels import parse_labels

        if self.labels is None:
            if self.n is None:
                raise InputError("how many images? Give --n N or --labels CLASS=COUNT,…")
            if self.n <= 0:
                raise InputError(f"--n {self.n}: expected 1 or more images")
            return self.n
        counts = parse_labels(self.labels)
        if self.n is not None and self.n != sum(counts.values()):
            raise InputError(
                f"--n {self.n}, but --labels asks for {sum(counts.values())}: give one, or make them agree"
            )
        return counts

    def chosen_seed(self) -> int:
        """The seed that was given, else a fresh one."""
        return secrets.randbits(63) if self.seed is None else self.seed

    def asked(self) -> "Asked":
        """How images become studies."""
        from medgan_core.release.dicom.drawing import THICKNESS, Asked

        return Asked(
            modality=None if self.modality is None else self.modality.value,
            slices=self.slices,
            spacing=self.spacing,
            thickness=THICKNESS if self.thickness is None else self.thickness,
            body_part=(self.body_part or "CHEST").upper(),
            laterality="" if self.laterality is None else self.laterality.value,
            first=self.first,
        )

    def refuse_dicom(self) -> None:
        """InputError where an option was given that is of DICOM alone."""
        plain = Drawing(self.n, self.labels, self.seed, self.first)
        if self != plain:
            raise InputError(
                "--modality, --slices-per-series, --spacing, --thickness, --body-part and --laterality are "
                "for --format dicom"
            )


def with_drawing(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose argument `drawing` a person gives as the options of `Drawing`, one by one."""
    hints = get_type_hints(Drawing, include_extras=True)
    names = {field.name: field.default for field in fields(Drawing)}

    @wraps(command)
    def run(**given: Any) -> None:
        drawing = Drawing(**{name: given.pop(name) for name in names})
        command(**given, drawing=drawing)

    own = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, default in names.items()
    ]
    kept = [parameter for name, parameter in own.parameters.items() if name != "drawing"]
    shown = own.replace(parameters=[*kept, *options])
    run.__signature__ = shown  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in shown.parameters.items()}
    return run
