"""Cohort and labels of [source] decide about DICOM files as they do about an archive's, by real files."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import client.check
from client.check import preflight
from client.cli import app
from client.folder import SiteFolder
from client.hospital import as_here, read_records, read_site
from medgan_core.data.records import Records
from medgan_core.errors import ConfigError, DataError
from medgan_core.privacy.site_key import SiteKey
from tests.client.sites import configure, make_site
from tests.medgan_core.data.dicom.making import sample, saved
from tests.medgan_core.data.pacs.test_labels import SAMPLES, needs_samples
from tests.server.making import tiny_study

KEY = SiteKey(b"k" * 32)
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "chest": (
        "CT_small.dcm",
        {"BodyPartExamined": "CHEST", "StudyDate": "20230510", "StudyDescription": "CT thorax"},
    ),
    "head": (
        "CT_small.dcm",
        {"BodyPartExamined": "HEAD", "StudyDate": "20210101", "SeriesDescription": "Axial 5"},
    ),
    "magnet": ("MR_small.dcm", {"StudyDate": "20230601", "StudyDescription": "MR pneumonia?"}),
}
DICOM = {"data__kind": '"dicom"', "data__path": '"data"', "data__patients": '""', "data__text_check": "false"}
ONE = {"source__label__kind": '"one"', "source__label__label": '"normal"'}


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    """Three patients' files at several depths, one of them in a zip, and without a manifest."""
    made = make_site(tmp_path / "site")
    data = made.path / "data"
    (data / "a" / "b").mkdir(parents=True)
    for number, (patient, (name, changes)) in enumerate(FILES.items()):
        uids = {"SOPInstanceUID": f"2.25.{number}", "StudyInstanceUID": f"2.25.1{number}"}
        content = saved(sample(name, PatientID=patient, **uids, **changes))
        if patient == "head":
            with zipfile.ZipFile(data / "old.zip", "w") as archive:
                archive.writestr("x/head", content)
        else:
            (data / "a" / "b" / f"{patient}.dcm").write_bytes(content)
    configure(made, **DICOM)
    return made


def read(folder: SiteFolder, **changes: Any) -> Records:
    mapped = changes.pop("map", {})
    text = folder.site_file.read_text(encoding="utf-8")
    place = text.index("\n", text.index("[source.label.map]")) + 1
    lines = "".join(f'"{pattern}" = "{label}"\n' for pattern, label in mapped.items())
    folder.site_file.write_text(text[:place] + lines + text[place:], encoding="utf-8")
    config = configure(folder, **changes)
    return read_records(folder, config, as_here(folder, config, tiny_study().data), KEY.pseudonym)


def labelled(records: Records) -> dict[str, str]:
    names = {str(KEY.pseudonym(patient)): patient for patient in FILES}
    return {names[patient]: label for patient, label in zip(records.patients, records.labels, strict=True)}


@pytest.mark.parametrize(
    ("rule", "value", "taken", "left_out"),
    [
        ("modalities", '["ct"]', {"chest", "head"}, {"modality": 1}),
        ("body_parts", '["Chest"]', {"chest"}, {"body part": 2}),
        ("begin", '"2023-01-01"', {"chest", "magnet"}, {"study date": 1}),
        ("end", '"2022-12-31"', {"head"}, {"study date": 2}),
        ("study_descriptions", '["*thorax*", "*pneumonia*"]', {"chest", "magnet"}, {"study description": 1}),
        ("series_descriptions", '["axial*"]', {"head"}, {"series description": 2}),
        ("sop_classes", '["MRImageStorage"]', {"magnet"}, {"SOP class": 2}),
    ],
)
def test_each_rule_of_the_cohort_decides(
    folder: SiteFolder, rule: str, value: str, taken: set[str], left_out: dict[str, int]
) -> None:
    records = read(folder, **ONE, **{f"source__cohort__{rule}": value})
    assert labelled(records) == dict.fromkeys(taken, "normal")
    assert records.report is not None
    assert records.report.cohort == left_out
    assert records.report.quarantine == ()


def test_labels_come_from_a_table_and_a_changed_table_is_read_again(folder: SiteFolder) -> None:
    table = folder.path / "labels.csv"
    table.write_text("patient,label\nchest,normal\nmagnet,pneumonia\n")
    settings = {"source__label__kind": '"table"', "source__label__file": '"labels.csv"'}
    records = read(folder, **settings)
    assert labelled(records) == {"chest": "normal", "magnet": "pneumonia"}
    assert records.report is not None
    assert dict(records.report.refused) == {"no_label": 1}
    table.write_text("patient,label\nchest,pneumonia\n")
    assert labelled(read(folder)) == {"chest": "pneumonia"}
    kept = b"".join(path.read_bytes() for path in folder.cache.iterdir())
    assert not [name for name in (*FILES, "thorax") if name.encode() in kept]


def test_labels_come_from_an_attribute_and_go_before_the_manifest_s(folder: SiteFolder) -> None:
    rules = {"source__label__kind": '"tag"', "source__label__tag": '"0008,1030"'}
    patterns = {"*thorax*": "normal", "*pneumonia*": "pneumonia"}
    expected = {"chest": "normal", "magnet": "pneumonia"}
    assert labelled(read(folder, **rules, map=patterns)) == expected
    manifest = folder.path / "data" / "manifest.csv"
    manifest.write_text("file,label\na/b/chest.dcm,other\na/b/magnet.dcm,other\n")
    assert labelled(read(folder)) == expected
    manifest.write_text("file\na/b/chest.dcm\n")
    assert labelled(read(folder)) == {"chest": "normal"}


def test_without_a_rule_the_manifest_has_the_labels(folder: SiteFolder) -> None:
    with pytest.raises(DataError, match=r"manifest\.csv is missing"):
        read(folder)
    (folder.path / "data" / "manifest.csv").write_text("file,label\na/b/chest.dcm,x\na/b/magnet.dcm,y\n")
    assert labelled(read(folder)) == {"chest": "x", "magnet": "y"}
    assert labelled(read(folder, source__cohort__modalities='["MR"]')) == {"magnet": "y"}


@needs_samples
@pytest.mark.parametrize("damaged", [False, True])
def test_a_segmentation_in_the_folder_labels_its_images(folder: SiteFolder, damaged: bool) -> None:
    data = folder.path / "data"
    with zipfile.ZipFile(SAMPLES) as archive:
        for number in (1, 2, 3):
            (data / f"{number}.dcm").write_bytes(archive.read(f"segmentations/ct-3slice/0{number}.dcm"))
        segmentation = archive.read("segmentations/liver.dcm")
    (data / "liver").write_bytes(segmentation[:-1000] if damaged else segmentation)
    records = read(folder, source__label__kind='"seg"', map={"liver": "pneumonia"})
    assert records.labels == (() if damaged else ("pneumonia",) * 3)
    assert records.report is not None
    assert records.report.refused["no_label"] == (6 if damaged else 3)
    if not damaged:
        (data / "liver").unlink()
        assert read(folder).labels == ()  # the cache has noticed


def test_a_study_and_the_check_read_by_the_rules(folder: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.check, "steps_per_second", lambda study, device: 12.5)
    configure(folder, **ONE, source__cohort__modalities='["CT"]')
    facts = read_site(folder, folder.config(), tiny_study(), KEY.pseudonym).facts
    assert (facts.images, facts.patients + facts.held_out, facts.unit) == (2, 2, "patient")
    told = [finding.text for finding in preflight(folder, offline=True)]
    assert "images are files, as [data] says, and rules of [source]" in told
    assert "left out: 1 files, cohort: modality" in told
    assert "pull" in str(CliRunner().invoke(app, ["pull", "--site", str(folder.path)]).exception)


def test_rules_need_headers_and_labels_one_place(folder: SiteFolder) -> None:
    with pytest.raises(ConfigError, match=r"data\.labels"):
        configure(folder, **ONE, data__labels='"x.csv"')
    mended = folder.site_file.read_text().replace('labels = "x.csv"', 'labels = ""')
    folder.site_file.write_text(mended)
    for kind in ("npz", "folder", "idx"):
        with pytest.raises(ConfigError, match="only DICOM has headers"):
            configure(folder, data__kind=f'"{kind}"')
