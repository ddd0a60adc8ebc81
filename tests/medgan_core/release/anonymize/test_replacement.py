import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from medgan_core.errors import InputError, RefusedError
from medgan_core.release.anonymize.identifiers import PseudonymKey
from medgan_core.release.anonymize.mirror import Mirror
from medgan_core.release.anonymize.replacement import Replaced, draw_cohort, mirror_cohort
from medgan_core.release.bundle import Release
from medgan_core.release.leaks.check import leak_check
from tests.medgan_core.release.anonymize.planting import Planted
from tests.medgan_core.release.anonymize.test_cohort import left, planted_folder
from tests.medgan_core.release.making import CARD, build

KEY = PseudonymKey(bytes(range(32)))
DAYS = ("20010305", "20010402", "20030101")


@pytest.fixture(name="release", scope="module")
def _release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tmp_path_factory.mktemp("r") / "release", card=replace(CARD, modality="CT"))


def write_real(folder: Path, patient: str, visit: int, slices: int, sagittal: bool = False) -> None:
    for number in range(slices):
        made = Dataset()
        made.SOPClassUID, made.Modality = CTImageStorage, "CT"
        made.PatientID, made.PatientName = patient, f"Ottokar^{patient}"
        made.StudyDate, made.StudyTime = DAYS[visit], "101112"
        made.StudyInstanceUID = UID(f"1.2.3.{len(patient)}.{visit}")
        made.SeriesInstanceUID = UID(f"{made.StudyInstanceUID}.1")
        made.SOPInstanceUID = UID(f"{made.SeriesInstanceUID}.{number}.{ord(patient[0])}")
        made.ImageOrientationPatient = [0, 1, 0, 0, 0, -1] if sagittal else [1, 0, 0, 0, 1, 0]
        made.Rows = made.Columns = 8
        made.BitsAllocated = made.BitsStored = 16
        made.HighBit, made.PixelRepresentation, made.SamplesPerPixel = 15, 0, 1
        made.PhotometricInterpretation = "MONOCHROME2"
        made.PixelData = np.arange(64, dtype="<u2").tobytes()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.save_as(folder / f"{patient}-{visit}-{number}.dcm", enforce_file_format=True)


@pytest.fixture(name="real", scope="module")
def _real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    for visit in (0, 1, 2):
        write_real(folder, "Ludmilla77", visit, 3, sagittal=visit == 2)
    write_real(folder, "Zebulon", 0, 1)
    (folder / "manifest.csv").write_text("file,label\nLudmilla77-0-0.dcm,pneumonia\n")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def datasets(folder: Path) -> list[Dataset]:
    written = sorted(p for p in (folder / "studies").rglob("*/SE*/*") if p.is_file())
    return [pydicom.dcmread(p) for p in written]


def test_a_drawn_cohort_does_not_depend_on_in(release: Release, real: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one = draw_cohort(real, tmp_path / "a", release, KEY, 5)
    two = draw_cohort(tmp_path / "empty", tmp_path / "b", release, KEY, 5)
    assert one.images == two.images >= 5
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert "Nothing of IN" in one.notice[2]
    made = datasets(tmp_path / "a")
    assert len({dataset.PatientID for dataset in made}) == 5
    assert {dataset.SyntheticData for dataset in made} == {"YES"}
    assert not any("NOT DP" in " ".join(dataset.DeidentificationMethod) for dataset in made)


def test_other_keys_and_none_give_other_images(release: Release, real: Path, tmp_path: Path) -> None:
    made: list[Replaced] = []
    for name, key in (("a", KEY), ("b", PseudonymKey(b"x" * 32)), ("c", None), ("d", None)):
        made.append(draw_cohort(real, tmp_path / name, release, key, 2))
    assert len({one.seed for one in made}) == 4


def test_the_number_of_patients_is_the_public_one(release: Release, real: Path, tmp_path: Path) -> None:
    nominal = release.study.model_copy(
        update={"sites": release.study.sites.model_copy(update={"nominal_patients": 3})}
    )
    made = draw_cohort(real, tmp_path / "a", replace(release, study=nominal), KEY, None)
    assert made.patients == 3
    assert "public nominal size" in made.notice[1]


@pytest.fixture(name="mirrored", scope="module")
def _mirrored(
    release: Release, real: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Replaced, Mirror]:
    out = tmp_path_factory.mktemp("mirror") / "out"
    return out, *mirror_cohort(real, out, release, KEY)


def test_a_mirror_repeats_structure_labels_and_intervals(mirrored: tuple[Path, Replaced, Mirror]) -> None:
    out, made, mirror = mirrored
    assert (made.patients, made.images, mirror.labelled) == (2, 10, 1)
    by_patient: dict[str, list[Dataset]] = {}
    for dataset in datasets(out):
        by_patient.setdefault(dataset.PatientID, []).append(dataset)
    assert set(by_patient) == {KEY.pseudonym("", "Ludmilla77"), KEY.pseudonym("", "Zebulon")}
    long = by_patient[KEY.pseudonym("", "Ludmilla77")]
    days = sorted({date.fromisoformat(dataset.StudyDate) for dataset in long})
    assert [(later - days[0]).days for later in days] == [0, 28, 667]
    assert days[0].year > 2100
    first = [dataset for dataset in long if dataset.StudyDate == f"{days[0]:%Y%m%d}"]
    assert len(first) == 3
    last = [dataset for dataset in long if dataset.StudyDate == f"{days[2]:%Y%m%d}"]
    assert {tuple(dataset.ImageOrientationPatient) for dataset in last} == {(0, 1, 0, 0, 0, -1)}
    table = (out / "studies" / "labels.csv").read_text()
    assert table.count("pneumonia") >= 3


def test_a_mirror_says_that_it_is_not_private(mirrored: tuple[Path, Replaced, Mirror]) -> None:
    out, made, _ = mirrored
    for dataset in datasets(out):
        said = " ".join(dataset.DeidentificationMethod)
        assert "NOT DP, internal use only" in said
        assert "No attribute was copied" not in said
        assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"
    assert "NOT DP" in made.notice[0]
    assert "NOT DP" in (out / "NOTICE.txt").read_text()
    assert json.loads((out / "anonymize.json").read_text())["structure"] == "mirror"


def test_nothing_real_is_in_a_mirror(mirrored: tuple[Path, Replaced, Mirror], real: Path) -> None:
    leaks = leak_check(mirrored[0], real)
    assert leaks.clean, leaks.places
    assert leaks.real_frames == 10
    assert leaks.searched["date"] > 0


def test_no_canary_is_left(release: Release, tmp_path: Path) -> None:
    planted: list[Planted] = planted_folder(tmp_path / "in")
    mirror_cohort(tmp_path / "in", tmp_path / "mirror", release, KEY)
    draw_cohort(tmp_path / "in", tmp_path / "counts", release, KEY, 2)
    for name in ("mirror", "counts"):
        assert left(tmp_path / name, planted) == []
        leaks = leak_check(tmp_path / name, tmp_path / "in")
        assert leaks.clean, leaks.places


def test_a_release_that_is_not_private_is_refused(real: Path, tmp_path: Path) -> None:
    public = build(tmp_path / "release", {"privacy.mode": "off"}, card=replace(CARD, modality="CT"))
    with pytest.raises(RefusedError, match="NOT PRIVATE"):
        draw_cohort(real, tmp_path / "out", public, KEY, 2)
    with pytest.raises(RefusedError, match="NOT PRIVATE"):
        mirror_cohort(real, tmp_path / "out", public, KEY)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_mirrored(release: Release, real: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no CT image"):
        mirror_cohort(tmp_path / "empty", tmp_path / "out", release, KEY)
    (tmp_path / "labels").mkdir()
    write_real(tmp_path / "labels", "Ludmilla77", 0, 1)
    (tmp_path / "labels" / "manifest.csv").write_text("file,label\nLudmilla77-0-0.dcm,Ludmilla\n")
    with pytest.raises(InputError, match=r"manifest\.csv row 2") as caught:
        mirror_cohort(tmp_path / "labels", tmp_path / "out", release, KEY)
    assert "Ludmilla" not in str(caught.value)
