"""Masks of phantoms as DICOM SEG: they refer to their slices, are marked, and are read again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.seg import segread
from numpy.typing import NDArray

from medgan_core.errors import InputError
from medgan_core.release.dicom.patients import Modality
from medgan_core.release.dicom.studies import Masks, Patient, Segment, Study, write_studies
from tests.medgan_core.release.dicom.making import PROVENANCE, read, series
from tests.medgan_core.release.dicom.programs import complaints, entities, needs

DISC, SQUARE = Segment("disc"), Segment("square", kind=("49755003", "SCT", "Lesion"))


def phantom(slices: int) -> NDArray[np.uint8]:
    """A disc in every slice and a square in the first."""
    y, x = np.mgrid[-1:1:40j, -1:1:33j]
    values = np.repeat((np.hypot(x, y) < 0.4)[None].astype(np.uint8), slices, axis=0)
    values[0, :5, :5] = 2
    return values


def masked(modality: Modality, slices: int) -> Patient:
    segmented = replace(series(modality, slices), masks=Masks(phantom(slices), (DISC, SQUARE)))
    return Patient((Study((segmented,)),))


@pytest.mark.parametrize(("modality", "slices"), [("CT", 3), ("MR", 2), ("DX", 1), ("SC", 1)])
def test_masks_refer_to_their_slices(tmp_path: Path, modality: Modality, slices: int) -> None:
    assert write_studies(tmp_path / "x", [masked(modality, slices)], PROVENANCE) == slices + 1
    made = read(tmp_path / "x")
    (path,) = [Path(str(d.filename)) for d in made if d.Modality == "SEG"]
    images = [d for d in made if d.Modality != "SEG"]
    segmentation = segread(path)
    assert segmentation.SyntheticData == "YES"
    assert segmentation.DeidentificationMethod == images[0].DeidentificationMethod
    assert len(segmentation.ContributingEquipmentSequence) == 1
    assert segmentation.StudyInstanceUID == images[0].StudyInstanceUID
    assert segmentation.PatientID == images[0].PatientID
    assert segmentation.SeriesInstanceUID != images[0].SeriesInstanceUID
    uids = [d.SOPInstanceUID for d in sorted(images, key=lambda d: int(d.InstanceNumber))]
    found = segmentation.get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(found, phantom(slices))


def test_segmentations_are_the_same_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_studies(tmp_path / name, [masked("CT", 2)], PROVENANCE)
    one, two = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("a", "b")
    )
    assert one == two


@pytest.mark.parametrize(
    "masks",
    [
        Masks(phantom(2), (DISC, SQUARE)),
        Masks(phantom(3), (DISC,)),
        Masks(phantom(3), ()),
        Masks(phantom(3).astype(np.int64), (DISC, SQUARE)),
    ],
)
def test_masks_that_do_not_fit(tmp_path: Path, masks: Masks) -> None:
    with pytest.raises(InputError, match="masks"):
        write_studies(tmp_path / "x", [Patient((Study((replace(series("CT"), masks=masks),)),))], PROVENANCE)


@needs("dciodvfy", "dcentvfy")
@pytest.mark.parametrize(("modality", "slices"), [("CT", 3), ("SC", 1)])
def test_a_validator_finds_no_error(tmp_path: Path, modality: Modality, slices: int) -> None:
    write_studies(tmp_path / "x", [masked(modality, slices)], PROVENANCE)
    paths = [Path(str(d.filename)) for d in read(tmp_path / "x")]
    for path in paths:
        assert complaints(path) == []
    assert entities(paths) == ""
    assert pydicom.dcmread(paths[-1]).Modality == "SEG"
