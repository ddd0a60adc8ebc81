"""The images beside a release are those that its generator draws, and a judge of DICOM looks at them."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medgan_core.errors import ReleaseError
from medgan_core.release.bundle import Release
from medgan_core.release.check import dicom
from medgan_core.release.check.dicom import SAMPLES, check_samples, sample_files
from medgan_core.release.dicom.drawing import Asked, write_release
from medgan_core.release.files import created
from tests.medgan_core.release.dicom.programs import complaints, needs
from tests.medgan_core.release.making import CARD, Parties


def test_they_are_what_generate_writes_and_the_same_at_every_call(release: Release, tmp_path: Path) -> None:
    files = sample_files(release)
    assert list(files) == [f"samples/{number:04d}.dcm" for number in range(SAMPLES)]
    assert sample_files(release) == files
    write_release(tmp_path / "out", release, SAMPLES, dicom.SEED, Asked())
    generated = {
        str(dataset.SOPInstanceUID): dataset
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and path.name not in ("DICOMDIR", "labels.csv")
        for dataset in [pydicom.dcmread(path)]
    }
    for body in files.values():
        dataset = pydicom.dcmread(BytesIO(body))
        twin = generated.pop(str(dataset.SOPInstanceUID))
        assert np.array_equal(dataset.pixel_array, twin.pixel_array)
        assert dataset.StudyDate == created(release.folder).strftime("%Y%m%d")
    assert generated == {}


def test_a_program_that_is_not_there_is_told_of(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "_PROGRAM", "no-such-program")
    (line,) = check_samples(release, sample_files(release), same_version=True)
    assert "no-such-program is not installed and was not asked" in line


def test_what_a_program_calls_an_error_is_named(
    checked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Release.open(checked)
    script = tmp_path / "judge"
    script.write_text(
        "#!/bin/sh\necho 'Error - (0x0008,0x001c) is new'\necho 'Error - Missing attribute' >&2\n"
    )
    script.chmod(0o700)
    monkeypatch.setattr(dicom, "_PROGRAM", str(script))
    with pytest.raises(ReleaseError, match=r"^samples/0000.dcm: .*says: Error - Missing attribute"):
        check_samples(release, sample_files(release), same_version=True)
    script.write_text("#!/bin/sh\necho 'Error - (0x0008,0x001c) is new'\n")
    assert "finds no error" in check_samples(release, sample_files(release), same_version=True)[0]


@needs("dciodvfy")
def test_debian_s_program_finds_neither_error_nor_warning(checked: Path) -> None:
    for path in sorted((checked / "samples").iterdir()):
        assert complaints(path) == []


@needs("dciodvfy")
@pytest.mark.parametrize("modality", ["CT", "MR", "OT"])
def test_it_finds_no_error_in_other_modalities(modality: str, parties: Parties, tmp_path: Path) -> None:
    release = parties.build(tmp_path / "release", card=replace(CARD, modality=modality))
    for name, body in sample_files(release).items():
        path = tmp_path / Path(name).name
        path.write_bytes(body)
        said = [
            line for line in complaints(path) if "Laterality" not in line
        ]  # a warning: empty, since unknown
        assert said == []


def test_of_another_version_identifiers_promises_and_pixels_are_compared(release: Release) -> None:
    files = sample_files(release)
    dataset = pydicom.dcmread(BytesIO(files["samples/0001.dcm"]))
    dataset.StudyDescription = "another version's words"
    files["samples/0001.dcm"] = _saved(dataset)
    check_samples(release, files, same_version=False)
    with pytest.raises(ReleaseError, match=r"^samples/0001.dcm: StudyDescription"):
        check_samples(release, files, same_version=True)
    dataset.SOPInstanceUID = "1.2.3"
    files["samples/0001.dcm"] = _saved(dataset)
    with pytest.raises(ReleaseError, match=r"^samples/0001.dcm: SOPInstanceUID"):
        check_samples(release, files, same_version=False)


def _saved(dataset: pydicom.Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()
