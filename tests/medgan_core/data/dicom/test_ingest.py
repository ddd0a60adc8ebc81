from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from medgan_core.data.dicom.sources import find
from medgan_core.data.dicom.terms import Terms
from medgan_core.errors import DataError
from tests.medgan_core.data.dicom.making import FILES, TERMS, keyed, read, sample, saved, slices
from tests.medgan_core.data.making import write_zip


def test_a_cohort_is_admitted_and_labelled_by_functions_of_the_header() -> None:
    seen: list[Dataset] = []

    def admit(dataset: Dataset) -> str | None:
        seen.append(dataset)
        return None if dataset.Modality == "CT" else "modality"

    def label_of(dataset: Dataset) -> str | None:
        return None if dataset.PatientID == "unknown" else str(dataset.Modality)

    unknown = sample("CT_small.dcm", PatientID="unknown")
    sources: list[tuple[str, Path | bytes]] = [("ct", FILES / "CT_small.dcm"), ("mr", FILES / "MR_small.dcm")]
    sources.append(("u", saved(unknown)))
    found, quarantine = read(sources, admit=admit, label_of=label_of)
    assert found.labels == ("CT",)
    assert quarantine == {"u": "no_label"}
    assert dict(found.report.cohort) == {"modality": 1}
    assert len(seen) == 3
    assert not any(element.tag.is_private or element.tag.group == 0x7FE0 for element in seen[0])


def test_the_patient_is_issuer_and_id_under_the_sites_key() -> None:
    files = slices(3)
    for i, (dataset, issuer) in enumerate(zip(files, ("", "A", "B"), strict=True)):
        dataset.PatientID, dataset.IssuerOfPatientID = "7", issuer
        dataset.SOPInstanceUID = f"1.2.{i}"
    found, _ = read([(str(i), saved(dataset)) for i, dataset in enumerate(files)])
    assert set(found.patients) == {keyed("7"), keyed("7^^^A"), keyed("7^^^B")}


def test_without_a_patient_an_image_is_refused_unless_the_data_are_public() -> None:
    sources = [("a", saved(sample("CT_small.dcm", PatientID="")))]
    assert read(sources)[1] == {"a": "no_patient"}
    found, quarantine = read(sources, Terms(pseudonym=keyed, needs_patient=False))
    assert (quarantine, found.named) == ({}, (False,))


def test_bytes_and_files_give_the_same(tmp_path: Path) -> None:
    raws = [(f"{i}", saved(dataset)) for i, dataset in enumerate(slices(4))]
    for name, raw in raws:
        (tmp_path / name).write_bytes(raw)
    write_zip(tmp_path / "deep.zip", {f"a/b/{name}": raw for name, raw in raws})
    by_bytes, _ = read(raws)
    by_files, _ = read([(name, tmp_path / name) for name, _ in raws])
    by_zip, _ = read([e for e in find(tmp_path) if e[0].startswith("deep.zip")])  # type: ignore[misc]
    assert np.array_equal(by_bytes.images, by_files.images)
    assert np.array_equal(by_zip.images, by_files.images)
    assert len(by_zip.images) == 4


def test_stacks_spacing_and_the_cap_make_the_images_that_they_say() -> None:
    raws = [(f"{i}", saved(dataset)) for i, dataset in enumerate(slices(6, step=2.0))]
    plain, _ = read(raws, window="bone")
    stacked, _ = read(raws, window="bone", stack=3, channels=3)
    assert stacked.images.shape == (4, 3, 32, 32)
    assert np.array_equal(stacked.images[0], plain.images[:3, 0])
    between, _ = read(raws, window="bone", slice_spacing=1.0)
    assert between.images.shape[0] == 11
    assert np.allclose(between.images[1], (plain.images[0] + plain.images[1]) / 2, atol=1e-6)
    own = float(sample("CT_small.dcm").PixelSpacing[0])
    zoomed, _ = read(raws, window="bone", spacing=own * 4)
    assert np.allclose(zoomed.images, plain.images, atol=1e-3)  # 128 pixels to 32: the whole slice
    wide, _ = read(raws, window="bone", spacing=own * 8)
    assert (wide.images[:, :, :8] == -1).all()
    few, _ = read(raws, window="bone", slices_per_patient=2)
    assert np.array_equal(few.images, plain.images[[1, 4]])
    assert dict(few.report.refused) == {"cap": 4}
    assert few.report.quarantine == ()


def test_another_patient_changes_nobodys_images() -> None:
    own = [(f"own {i}", saved(dataset)) for i, dataset in enumerate(slices(5))]
    others = [(f"{i}", saved(dataset)) for i, dataset in enumerate(slices(5, PatientID="other"))]
    alone, _ = read(own, slices_per_patient=3)
    together, _ = read([*others, *own], slices_per_patient=3)
    mine = [i for i, patient in enumerate(together.patients) if patient == alone.patients[0]]
    assert np.array_equal(together.images[mine], alone.images)


def test_strictly_the_first_bad_file_is_named() -> None:
    with pytest.raises(DataError, match=r"^bad is refused \(not_dicom\): no DICOM file"):
        read([("good", FILES / "CT_small.dcm"), ("bad", b"Dear colleague")], Terms(strict=True))


def test_the_report_holds_no_name() -> None:
    found, _ = read([("Doe_John.dcm", b"x"), ("b", FILES / "CT_small.dcm")])
    text = str(found.report.as_json()) + found.report.quarantine_csv()
    assert not any(word in text for word in ("Doe", "1CT1", "CompressedSamples"))
    assert found.report.of_json(found.report.as_json()) == found.report
    assert TERMS.file("Doe_John.dcm") in found.report.quarantine_csv()
