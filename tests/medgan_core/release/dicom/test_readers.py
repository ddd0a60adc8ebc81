"""Other people's programs judge and read every file: dicom3tools, DCMTK, MONAI, Orthanc."""

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from monai.data.image_reader import PydicomReader
from PIL import Image

from tests.medgan_core.release.dicom.making import files, read
from tests.medgan_core.release.dicom.programs import complaints, entities, needs
from tests.orthanc import needs_orthanc, orthanc


@needs("dciodvfy")
def test_dciodvfy_finds_no_error_and_no_warning(cohort: Path) -> None:
    assert {str(path.relative_to(cohort)): complaints(path) for path in files(cohort)} == {
        str(path.relative_to(cohort)): [] for path in files(cohort)
    }


@needs("dciodvfy")
def test_dciodvfy_is_asked_the_right_thing(cohort: Path, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(files(cohort)[0])
    del dataset.PatientName
    dataset.save_as(tmp_path / "bad")
    assert any("PatientName" in line for line in complaints(tmp_path / "bad"))


@needs("dciodvfy")
def test_the_directory_has_no_error(cohort: Path) -> None:
    said = subprocess.run(["dciodvfy", cohort / "DICOMDIR"], check=False, capture_output=True, text=True)
    assert "Error" not in said.stdout + said.stderr


@needs("dcentvfy")
def test_the_files_of_a_series_agree(cohort: Path, tmp_path: Path) -> None:
    assert entities(files(cohort)) == ""
    one, *others = read(cohort)[:3]
    one.PatientSex = "M"
    one.save_as(tmp_path / "odd")
    assert "PatientSex" in entities([tmp_path / "odd", *(Path(str(d.filename)) for d in others)])


@needs("dcmdump", "dcm2pnm")
def test_dcmtk_reads_and_draws_every_file(cohort: Path, tmp_path: Path) -> None:
    for path in files(cohort):
        dump = subprocess.run(["dcmdump", path], check=True, capture_output=True, text=True)
        assert "109100" in dump.stdout
        target = tmp_path / "picture.pnm"
        subprocess.run(["dcm2pnm", "+Wi", "1", path, target], check=False, capture_output=True)
        if not target.exists():  # colour has no window
            subprocess.run(["dcm2pnm", path, target], check=True, capture_output=True)
        dataset = pydicom.dcmread(path)
        with Image.open(target) as picture:
            assert picture.size == (dataset.Columns, dataset.Rows)
            assert np.asarray(picture).std() > 20
        target.unlink()


@pytest.mark.filterwarnings("ignore:PydicomReader. ImageOrientationPatient:UserWarning")  # DX and SC
def test_monai_reads_every_series_in_its_place(cohort: Path) -> None:
    reader = PydicomReader()
    for modality in ("CT", "MR", "DX", "OT"):
        datasets = [d for d in read(cohort) if d.Modality == modality and d.SamplesPerPixel == 1]
        for dataset in datasets:
            pixels, meta = reader.get_data(reader.read(str(dataset.filename)))
            np.testing.assert_array_equal(pixels.T, dataset.pixel_array)
            if modality in ("CT", "MR"):
                np.testing.assert_allclose(meta["affine"][:2, 3], -np.array(dataset.ImagePositionPatient[:2]))
    (ct, *_) = [d for d in read(cohort) if d.Modality == "CT"]
    volume, meta = reader.get_data(reader.read(str(Path(str(ct.filename)).parent)))
    assert volume.shape == (33, 40, 3)
    np.testing.assert_allclose(np.abs(np.diag(meta["affine"])), (0.8, 0.7, 2.5, 1), atol=1e-6)


@needs_orthanc
def test_orthanc_gives_back_what_was_stored(cohort: Path, tmp_path: Path) -> None:
    sent = read(cohort)
    with orthanc(tmp_path / "orthanc") as server:
        server.store(sent)
        client = DICOMwebClient(server.url)
        studies = client.search_for_studies()
        assert len(studies) == 5
        back = [
            dataset for study in studies for dataset in client.retrieve_study(study["0020000D"]["Value"][0])
        ]
    found = {dataset.SOPInstanceUID: dataset for dataset in back}
    assert len(found) == len(sent)
    for dataset in sent:
        other = found[dataset.SOPInstanceUID]
        assert other.SyntheticData == "YES"
        np.testing.assert_array_equal(other.pixel_array, dataset.pixel_array)
        assert other.ContributingEquipmentSequence == dataset.ContributingEquipmentSequence
