from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medgan_core.errors import InputError
from medgan_core.release.dicom.studies import Geometry, Patient, Series, Study
from tests.medgan_core.release.dicom.making import MODALITIES, picture, series

GREY = picture(2, 8, 8)


@pytest.mark.parametrize(
    ("modality", "changes", "says"),
    [
        ("US", {}, "modality"),
        ("DX", {"pixels": GREY.astype(np.float32)}, "pixels float32"),
        ("DX", {"pixels": GREY[0]}, "pixels uint8"),
        ("DX", {"pixels": GREY[:0]}, "pixels uint8"),
        ("DX", {"pixels": np.zeros((1, 8, 8, 3), np.uint8)}, "colour"),
        ("CT", {"pixels": GREY.astype(np.uint16)}, "CT of uint16"),
        ("SC", {"pixels": GREY.astype(np.uint16)}, "SC of uint16"),
        ("CT", {"geometry": None}, "CT of 3 slices with 0 positions"),
        ("DX", {"geometry": None}, "DX without a geometry"),
        ("DX", {"body_part": "NOWHERE"}, "body part 'NOWHERE'"),
        ("SC", {"body_part": "HAND"}, "one of a pair"),
        ("SC", {"window": (5.0, 0.0)}, "window width"),
        ("SC", {"index": -1}, "index -1"),
        ("SC", {"uid": "x"}, "UID 'x'"),
        ("SC", {"instance_uids": ("2.25.1",)}, "instance_uids: expected 3"),
        ("SC", {"description": "x" * 65}, "description"),
        ("SC", {"description": "a\\b"}, "description"),
    ],
)
def test_series_that_cannot_be_written(modality: Any, changes: dict[str, Any], says: str) -> None:
    start = series(modality if modality in MODALITIES else "DX")
    with pytest.raises(InputError, match=says):
        replace(start, modality=modality, **changes)


def test_a_paired_body_part_with_its_side() -> None:
    assert replace(series("SC"), body_part="HAND", laterality="L").laterality == "L"
    assert replace(series("DX"), body_part="HAND").laterality == ""


def test_patients_and_studies_are_not_empty() -> None:
    with pytest.raises(InputError, match="a study without a series"):
        Study(())
    with pytest.raises(InputError, match="a patient without a study"):
        Patient(())
    with pytest.raises(InputError, match="identifier"):
        Study((series("SC"),), identifier="x" * 17)


def test_facts_are_all_but_the_pixels() -> None:
    one = series("DX")
    assert one.facts() == replace(one, pixels=one.pixels + 1).facts()
    others = [
        replace(one, label="normal"),
        replace(one, geometry=Geometry((0.8, 0.8))),
        replace(one, index=4),
        Series("SC", one.pixels, 0, label="pneumonia"),
    ]
    assert len({one.facts(), *(other.facts() for other in others)}) == 5
