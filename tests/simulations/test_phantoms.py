import csv
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from medgan_core.config import PhantomsConfig, load_study
from medgan_core.data.archives import read_archive
from medgan_core.seeds import Seeds
from simulations import phantoms
from simulations.partition import partition
from simulations.phantoms import make_phantoms
from simulations.shipped import study_path

SMALL = PhantomsConfig(patients=20, max_images=2, pixels=48)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    make_phantoms(root / "phantoms", SMALL, 3, Seeds(0))
    return root


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_manifest_names_every_file_once(root: Path) -> None:
    with (root / "phantoms" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file"] for row in rows) == sorted(
        n for n in _digests(root / "phantoms") if n.endswith(".dcm")
    )
    patients = {row["patient"]: row["site"] for row in rows}
    assert Counter(patients.values()) == {"site-1": 12, "site-2": 20, "site-3": 28}
    assert max(Counter(row["patient"] for row in rows).values()) == 2
    assert {row["label"] for row in rows} == {"normal", "opacity"}


def test_the_same_seeds_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    one = PhantomsConfig(patients=2, max_images=2, pixels=48)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_phantoms(tmp_path / name, one, 4, Seeds(seed))
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    first, other = _digests(tmp_path / "a"), _digests(tmp_path / "c")
    assert not set(first.values()) & set(other.values())
    assert (tmp_path / "a" / "site-4").is_dir()


def test_files_are_dicom_of_three_scanners_with_persons_that_do_not_exist(root: Path) -> None:
    read = [pydicom.dcmread(path) for path in sorted((root / "phantoms").rglob("*.dcm"))]
    kinds = {(d.Modality, d.PhotometricInterpretation, d.BitsStored, d.Rows, d.Columns) for d in read}
    assert kinds == {
        ("CT", "MONOCHROME2", 12, 48, 48),
        ("DX", "MONOCHROME1", 12, 48, 48),
        ("DX", "MONOCHROME2", 10, 60, 48),
    }
    assert len({d.SOPInstanceUID for d in read}) == len(read)
    assert len({d.StudyInstanceUID for d in read}) == len({d.PatientID for d in read})
    assert all(str(d.PatientName).startswith("PHANTOM^") and d.PatientID.startswith("phantom-") for d in read)
    assert all(d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID for d in read)
    assert all(str(d.SOPInstanceUID).startswith("2.25.") and len(d.SOPInstanceUID) <= 64 for d in read)
    required = (
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
        "StudyID",
        "SeriesNumber",
    )
    assert all(
        name in d for d in read for name in (*required, "PatientBirthDate", "PatientSex", "Manufacturer")
    )


def test_an_opacity_is_brighter_in_the_lungs_and_a_study_reads_them(root: Path) -> None:
    study = load_study(study_path("phantoms"))
    archive = read_archive(study.data, root, name="phantoms")
    sites = partition(archive, study, Seeds(0))
    assert [site.name for site in sites] == ["site-1", "site-2", "site-3"]
    for site in sites:
        lungs = site.training.images[:, 0, 6:20, :]
        columns = torch.cat([lungs[:, :, 6:11], lungs[:, :, 21:26]], dim=2).flatten(1)
        brightest = columns.sort(dim=1).values[:, -20:].mean(dim=1) - columns.median(dim=1).values
        ill, well = brightest[site.training.labels == 1], brightest[site.training.labels == 0]
        assert ill.median() > well.max()


def test_interrupted_writing_leaves_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_phantoms(tmp_path, PhantomsConfig(patients=1, pixels=32), 1, Seeds(0))
    assert (tmp_path / "manifest.csv").exists()

    def stop(*_: object) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(phantoms, "scan", stop)
    with pytest.raises(KeyboardInterrupt):
        make_phantoms(tmp_path, PhantomsConfig(patients=1, pixels=32), 1, Seeds(0))
    assert not (tmp_path / "manifest.csv").exists()
