"""Every attribute that marks a file, pixels and their meaning, and what is never written."""

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes

from medgan_core.config import parse_study
from medgan_core.data.dicom.ingest import ingest
from medgan_core.data.dicom.reasons import Refusal
from medgan_core.data.dicom.windows import CT_WINDOWS
from medgan_core.release.dicom.datasets import names_of, series_datasets
from medgan_core.release.dicom.patients import Modality
from medgan_core.release.dicom.provenance import MIRRORED
from medgan_core.release.dicom.studies import Geometry, Patient, Provenance, Series, Study, stack
from medgan_core.release.dicom.uids import is_uid
from tests.medgan_core.release.dicom.making import MODALITIES, PROVENANCE, patient, picture, read, series
from tests.medgan_core.release.dicom.standard import missing

sizes = st.integers(1, 40)
lengths = st.floats(0.05, 20)


def written(dataset: Dataset) -> Dataset:
    """Through bytes and back."""
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    return pydicom.dcmread(stream)


def datasets(of: Series, provenance: Provenance = PROVENANCE, **study: Any) -> list[Dataset]:
    whole = Patient((Study((of,), **study),))
    return [written(d) for d in series_datasets(whole, whole.studies[0], 0, provenance)]


def test_every_file_is_marked(cohort: Path) -> None:
    for dataset in read(cohort):
        assert dataset.SyntheticData == "YES"
        assert dataset.ImageType[:2] == ["DERIVED", "SECONDARY"]
        (equipment,) = dataset.ContributingEquipmentSequence
        (purpose,) = equipment.PurposeOfReferenceCodeSequence
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")
        assert purpose.CodeMeaning == codes.DCM.SynthesizingEquipment.meaning == "Synthesizing Equipment"
        assert equipment.DeviceSerialNumber == PROVENANCE.model
        assert equipment.SoftwareVersions == PROVENANCE.version
        told = equipment.ContributionDescription
        assert all(part in told for part in (PROVENANCE.model, "epsilon 9.877 at delta 1e-05", "seed 7"))
        assert equipment.ContributionDateTime == "20260102030405+0000"
        method = " ".join(dataset.DeidentificationMethod)
        assert "epsilon 9.877 at delta 1e-05 for each patient" in method
        assert "epsilon 31.2 without trust" in method
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.LossyImageCompression == "00"


def test_nothing_is_claimed_that_was_not_done(cohort: Path) -> None:
    for dataset in read(cohort):
        assert "DeidentificationMethodCodeSequence" not in dataset
        assert "RecognizableVisualFeatures" not in dataset
        assert ("BurnedInAnnotation" in dataset) == (dataset.Modality == "DX")
        assert not any(element.tag.is_private for element in dataset.iterall())


def test_what_was_checked_is_said() -> None:
    (dataset,) = datasets(replace(series("SC", 1), free_of_text=True, free_of_faces=True))
    assert (dataset.BurnedInAnnotation, dataset.RecognizableVisualFeatures) == ("NO", "NO")


def test_all_that_the_standard_demands_is_there(cohort: Path) -> None:
    for dataset in read(cohort):
        assert missing(dataset) == []
        del dataset.StudyInstanceUID, dataset.PatientName
        assert missing(dataset) == ["PatientName", "StudyInstanceUID"]


def test_files_are_dated_by_the_release_or_by_the_study() -> None:
    taken = datetime(2019, 5, 6, 7, 8, 9, 123, tzinfo=UTC)
    for dataset, day, time in (
        (datasets(series("CT", 1))[0], "20260102", "030405"),
        (datasets(series("CT", 1), taken=taken)[0], "20190506", "070809"),
    ):
        assert {dataset.StudyDate, dataset.SeriesDate, dataset.ContentDate} == {day}
        assert {dataset.StudyTime, dataset.SeriesTime, dataset.ContentTime} == {time}
        assert dataset.InstanceCreationDate == "20260102"


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(MODALITIES), st.integers(1, 3), sizes, sizes, lengths, lengths, lengths)
def test_any_series_is_read_again_as_it_was(
    modality: Modality, slices: int, rows: int, columns: int, down: float, across: float, thickness: float
) -> None:
    placed = modality in ("CT", "MR")
    grid = stack(slices, rows, columns, (down, across), thickness) if placed else Geometry((down, across))
    of = Series(modality, picture(slices, rows, columns), 0, grid)
    made = datasets(of)
    assert [d.InstanceNumber for d in made] == list(range(1, slices + 1))
    for position, dataset in enumerate(made):
        assert (dataset.Rows, dataset.Columns) == (rows, columns)
        spacing = dataset.get("PixelSpacing") or dataset.ImagerPixelSpacing
        np.testing.assert_allclose(spacing, (down, across), rtol=1e-8)
        np.testing.assert_array_equal(levels_of(dataset), of.pixels[position])
        assert missing(dataset) == []
        if placed:
            np.testing.assert_allclose(dataset.ImagePositionPatient, grid.positions[position], atol=1e-6)


def levels_of(dataset: Dataset) -> NDArray[np.float64]:
    """The grey levels that were written, from the stored values and their meaning."""
    values = dataset.pixel_array.astype(np.float64)
    if dataset.Modality == "CT":
        centre, width = CT_WINDOWS["lung"]
        values = ((values * dataset.RescaleSlope + dataset.RescaleIntercept) - centre) / width * 255 + 127.5
    elif dataset.Modality in ("MR", "DX"):
        values = values / 4095 * 255
    return np.round(values)


def test_ct_is_in_hounsfield_units_of_the_window() -> None:
    ends = np.array([[[0, 255]]], np.uint8)
    (lung,) = datasets(Series("CT", ends, 0, stack(1, 1, 2, (1, 1), 1)))
    assert lung.pixel_array.tolist() == [[-1350, 150]]
    assert (lung.WindowCenter, lung.WindowWidth, lung.RescaleType) == (-600, 1500, "HU")
    (brain,) = datasets(Series("CT", ends, 0, stack(1, 1, 2, (1, 1), 1), window=(40, 80)))
    assert brain.pixel_array.tolist() == [[0, 80]]
    (raw,) = datasets(Series("CT", ends.astype(np.int16) - 1000, 0, stack(1, 1, 2, (1, 1), 1)))
    assert raw.pixel_array.tolist() == [[-1000, -745]]


@pytest.mark.parametrize("modality", ["MR", "DX"])
def test_sixteen_bits_are_stored_as_they_are(modality: Modality) -> None:
    (dataset,) = datasets(replace(series(modality, 1), pixels=np.full((1, 40, 33), 60_000, np.uint16)))
    assert dataset.pixel_array.max() == 60_000
    assert (dataset.BitsStored, dataset.WindowWidth) == (16, 65_536)
    (eight,) = datasets(series(modality, 1))
    assert (eight.BitsStored, eight.WindowCenter, eight.WindowWidth) == (12, 2048, 4096)


def test_what_was_written_is_what_ingest_reads() -> None:
    """Ingest refuses synthetic files; without that mark its own scaling gives the grey levels back."""
    data = parse_study({"name": "x", "data": {"kind": "dicom", "path": "x", "image_size": 32}}).data
    for modality in MODALITIES:
        (dataset,) = datasets(replace(series(modality, 1), pixels=picture(1, 32, 32)))
        refused = ingest([("synthetic", in_bytes(dataset))], data, workers=1)
        assert len(refused.images) == 0
        assert refused.report.refused[Refusal.SYNTHETIC] == 1
        del dataset.SyntheticData
        (image,) = ingest([("unmarked", in_bytes(dataset))], data, workers=1).images
        np.testing.assert_allclose((image[0] + 1) * 127.5, picture(1, 32, 32)[0], atol=0.2)


def in_bytes(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_identifiers_are_derived_or_given() -> None:
    whole = patient("CT")
    study, of = whole.studies[0], whole.studies[0].series[0]
    names = names_of(whole, study, of, PROVENANCE)
    uids = [names.study, names.series, names.frame, *names.instances]
    assert len(set(uids)) == len(uids)
    assert all(is_uid(uid) and uid.startswith("2.25.") for uid in uids)
    assert names.patient.startswith("SYN-")
    assert names == names_of(whole, study, of, PROVENANCE)
    other = names_of(whole, study, of, replace(PROVENANCE, seed=8))
    assert not set(uids) & {other.study, other.series, other.frame, *other.instances}
    own = replace(of, uid="2.25.1", frame_uid="2.25.2", instance_uids=("2.25.3", "2.25.4", "2.25.5"))
    person = Patient((Study((own,), uid="2.25.6"),), identifier="P7")
    given_names = names_of(person, person.studies[0], own, PROVENANCE)
    assert given_names.instances == ("2.25.3", "2.25.4", "2.25.5")
    assert (given_names.patient, given_names.study) == ("P7", "2.25.6")
    assert (given_names.series, given_names.frame) == ("2.25.1", "2.25.2")


def test_a_body_part_is_coded_in_dx() -> None:
    (dataset,) = datasets(replace(series("DX", 1), body_part="HAND", laterality="R"))
    assert dataset.ImageLaterality == "R"
    assert "Laterality" not in dataset
    assert dataset.AnatomicRegionSequence[0].CodeMeaning == "Hand"


def test_given_persons_of_a_mirrored_cohort_are_written() -> None:
    provenance = replace(PROVENANCE, mirrored=True)
    of = series("MR", 1)
    person = Patient(
        (Study((of,), identifier="S1", description="Head", accession="A1", age="045Y"),),
        identifier="P1",
        name="Doe^Synthetic",
        sex="F",
        birth_date="19700101",
    )
    (dataset,) = map(written, series_datasets(person, person.studies[0], 0, provenance))
    assert dataset.DeidentificationMethod[-1] == MIRRORED
    assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"
    told = [
        str(dataset[name].value) for name in ("PatientName", "PatientID", "PatientSex", "PatientBirthDate")
    ]
    assert told == ["Doe^Synthetic", "P1", "F", "19700101"]
    told = [
        str(dataset[name].value) for name in ("StudyID", "StudyDescription", "AccessionNumber", "PatientAge")
    ]
    assert told == ["S1", "Head", "A1", "045Y"]
