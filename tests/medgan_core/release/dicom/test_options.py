"""Both commands that draw have one block of options."""

from dataclasses import fields

import pytest
from typer.main import get_command

from medgan_core.cli import app
from medgan_core.errors import InputError
from medgan_core.release.dicom.options import Drawing, Modality, Side


@pytest.mark.parametrize("name", ["generate", "send"])
def test_every_option_of_drawing_is_one_of_the_command(name: str) -> None:
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    shown = {parameter.name: parameter.default for parameter in command.params}
    assert "drawing" not in shown
    assert {field.name: field.default for field in fields(Drawing)}.items() <= shown.items()


@pytest.mark.parametrize(
    "given",
    [
        Drawing(modality=Modality.CT),
        Drawing(slices=2),
        Drawing(spacing=1.0),
        Drawing(thickness=1.0),
        Drawing(body_part="HEAD"),
        Drawing(laterality=Side.LEFT),
    ],
)
def test_what_is_of_dicom_alone_is_refused_elsewhere(given: Drawing) -> None:
    with pytest.raises(InputError, match="for --format dicom"):
        given.refuse_dicom()


def test_the_others_are_not_of_dicom_alone() -> None:
    Drawing(n=1, labels="a=1", seed=3, first=5).refuse_dicom()
    assert Drawing(seed=3).chosen_seed() == 3
    assert Drawing().chosen_seed() != Drawing().chosen_seed()
    assert Drawing(body_part="head", first=2, slices=4).asked().body_part == "HEAD"
