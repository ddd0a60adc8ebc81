"""Folders of studies: complete, the same again to the bit, and never in the place of something else."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from medgan_core.errors import InputError
from medgan_core.release.dicom import volumes
from medgan_core.release.dicom.studies import Patient, Study, write_studies
from medgan_core.release.dicom.volumes import COLUMNS, TABLE
from tests.medgan_core.release.dicom.making import PROVENANCE, everybody, files, listed, patient, read, series


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_same_patients_give_the_same_bytes(cohort: Path, tmp_path: Path) -> None:
    write_studies(tmp_path / "again", everybody(), PROVENANCE)
    assert contents(tmp_path / "again") == contents(cohort)


def test_a_patient_alone_has_the_same_files(cohort: Path, tmp_path: Path) -> None:
    write_studies(tmp_path / "alone", [patient("MR", index=10)], PROVENANCE)
    among = {path.read_bytes() for path in files(cohort)}
    alone = [path.read_bytes() for path in files(tmp_path / "alone")]
    assert len(alone) == 3
    assert set(alone) < among


def test_identifiers_change_with_all_that_a_file_depends_on(tmp_path: Path) -> None:
    one = patient("DX", 1)
    (study,) = one.studies
    ways = [
        (one, PROVENANCE),
        (one, replace(PROVENANCE, seed=8)),
        (one, replace(PROVENANCE, model="00" * 32)),
        (Patient((Study((replace(study.series[0], label="normal"),)),)), PROVENANCE),
        (patient("DX", 1, index=1), PROVENANCE),
    ]
    uids = set()
    for who, provenance in ways:
        write_studies(tmp_path / "x", [who], provenance)
        (dataset,) = read(tmp_path / "x")
        uids.add(
            (dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.PatientID)
        )
    assert all(len(set(kind)) == len(ways) for kind in zip(*uids, strict=True))


def test_the_directory_and_the_table_list_every_file(cohort: Path) -> None:
    rows = table(cohort)
    names = {path.relative_to(cohort).as_posix() for path in files(cohort)}
    assert set(listed(cohort)) == {row["file"] for row in rows} == names
    for row in rows:
        dataset = pydicom.dcmread(cohort / row["file"])
        assert (row["patient"], row["modality"]) == (dataset.PatientID, dataset.Modality)
    assert [row["class"] for row in rows].count("pneumonia") == 12


def test_patients_have_studies_and_studies_have_series(tmp_path: Path) -> None:
    first = Study((series("CT", 2, index=0), series("MR", 1, index=2)))
    second = Study((series("CT", 2, index=3),), identifier="later")
    assert write_studies(tmp_path / "x", [Patient((first, second))], PROVENANCE) == 5
    made = read(tmp_path / "x")
    assert len({d.PatientID for d in made}) == 1
    assert len({d.StudyInstanceUID for d in made}) == 2
    assert len({d.SeriesInstanceUID for d in made}) == 3
    assert sorted((d.StudyID, int(d.SeriesNumber)) for d in made) == [
        ("0", 1),
        ("0", 1),
        ("0", 2),
        ("later", 1),
        ("later", 1),
    ]


def test_an_earlier_export_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "x"
    out.mkdir()
    write_studies(out, [patient("SC", 1, 5)], PROVENANCE)
    write_studies(out, [patient("SC", 1)], PROVENANCE)
    assert [row["index"] for row in table(out)] == ["0"]
    (out / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="no earlier export"):
        write_studies(out, [patient("SC", 1)], PROVENANCE)
    assert (out / "mine.txt").exists()


def test_a_disc_of_a_hospital_is_never_replaced(cohort: Path, tmp_path: Path) -> None:
    for name, body in contents(cohort).items():
        path = tmp_path / "disc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    (tmp_path / "disc" / TABLE).unlink()
    with pytest.raises(InputError, match="no earlier export"):
        write_studies(tmp_path / "disc", [patient("SC", 1)], PROVENANCE)
    (tmp_path / "disc" / TABLE).write_text("file,label\n")
    with pytest.raises(InputError, match="no earlier export"):
        write_studies(tmp_path / "disc", [patient("SC", 1)], PROVENANCE)


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Patient]:
        yield patient("SC", 1)
        raise InputError("no more")

    with pytest.raises(InputError, match="no more"):
        write_studies(tmp_path / "x", broken(), PROVENANCE)
    with pytest.raises(InputError, match="no patient"):
        write_studies(tmp_path / "x", [], PROVENANCE)
    with pytest.raises(InputError, match="twice: give each series an index"):
        write_studies(tmp_path / "x", [patient("SC", 1)] * 2, PROVENANCE)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"--out x: .*; choose another place"):
        write_studies(tmp_path / "file" / "x", [patient("SC", 1)], PROVENANCE)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_many_files_become_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "MOST", 3)
    many = [patient("SC", 2, index) for index in (0, 2, 4, 6, 8)]
    out = tmp_path / "x"
    assert write_studies(out, many, PROVENANCE) == 10
    assert sorted(path.name for path in out.iterdir()) == ["VOL000", "VOL001", "VOL002", TABLE]
    rows = table(out)
    assert list(rows[0]) == COLUMNS
    assert [int(row["index"]) for row in rows] == list(range(10))
    for name, count in (("VOL000", 4), ("VOL001", 4), ("VOL002", 2)):
        assert len(listed(out / name)) == count
    write_studies(out, many[:1], PROVENANCE)
    assert (out / "DICOMDIR").is_file()
