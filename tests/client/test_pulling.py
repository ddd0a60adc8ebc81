"""A site pulls its cohort from a real Orthanc and reads it as a study's data; nothing names a patient."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from click.testing import Result
from typer.testing import CliRunner

import client.check
from client.check import Finding, preflight
from client.cli import app
from client.daemon import private_paths
from client.folder import SiteFolder
from client.hospital import as_here, read_records, read_site
from client.pulled import PulledStore, current_objects, no_mask
from medgan_core.data.dicom.sealing import unsealed
from medgan_core.errors import ConfigError, InputError, IntegrityError, MedGANError
from medgan_core.privacy.site_key import SiteKey
from tests.client.sites import configure, make_site
from tests.medgan_core.data.pacs.objects import NAME, image, raw
from tests.medgan_core.data.pacs.test_labels import SAMPLES, needs_samples
from tests.orthanc import LEAKY, TITLE, Orthanc, needs_orthanc, orthanc
from tests.server.making import tiny_study

pytestmark = LEAKY
KEY = SiteKey(b"k" * 32)
PATIENTS, IMAGES = 16, 2
TAGGED: dict[str, Any] = {
    "source__label__kind": '"tag"',
    "source__label__tag": '"StudyDescription"',
    "source__label__map": {"*chest*": "normal", "*pneumonia*": "pneumonia"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """16 patients with two images, every other one with another description, and some of another modality."""
    descriptions = ("CT of the chest", "CT, pneumonia?")
    stored = [
        image(number, study=str(study), StudyDescription=descriptions[study % 2])
        for study in range(1, PATIENTS + 1)
        for number in range(1, IMAGES + 1)
    ]
    stored += [image(1, study="900", Modality="OT"), image(1, study="901", StudyDescription="unclear")]
    with orthanc(tmp_path_factory.mktemp("o") / "orthanc") as running:
        running.store(stored)
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    made = make_site(tmp_path / "site")
    for name in ("images.npz", "patients.csv"):
        (made.path / name).unlink()
    return made


def connect(folder: SiteFolder, server: Orthanc, kind: str = "dicomweb", **changes: Any) -> None:
    settings: dict[str, Any] = {"source__kind": f'"{kind}"', "source__cohort__modalities": '["CT"]'}
    settings["data__text_check"] = False  # the looks of Tesseract take seconds
    if kind == "dicomweb":
        settings["source__url"] = f'"{server.url}"'
    else:
        settings |= {
            "source__host": '"127.0.0.1"',
            "source__port": server.dicom,
            "source__peer_title": f'"{TITLE}"',
        }
    mapped = changes.pop("source__label__map", {})
    written = "".join(f'"{pattern}" = "{label}"\n' for pattern, label in mapped.items())
    text = folder.site_file.read_text(encoding="utf-8")
    place = text.index("\n", text.index("[source.label.map]")) + 1
    folder.site_file.write_text(text[:place] + written + text[place:], encoding="utf-8")
    configure(folder, **settings | changes)


def pull(folder: SiteFolder, *options: str) -> Result:
    return CliRunner().invoke(app, ["pull", "--site", str(folder.path), *options])


def wrong(result: Result) -> str:
    assert isinstance(result.exception, MedGANError), result.output
    return str(result.exception)


def notes(folder: SiteFolder, key: bytes | None = None) -> list[dict[str, Any]]:
    """Label, patient and mask of each object of the current set."""
    store = PulledStore(folder.pulled, None, lambda header: None, no_mask, key)  # type: ignore[arg-type]
    return [store.note(one.name) for one in current_objects(folder.pulled, key)]


def files(folder: SiteFolder) -> bytes:
    """All that is on disk below a site, names included, as it is and unpacked."""
    content = b""
    for path in folder.path.rglob("*"):
        content += str(path.relative_to(folder.path)).encode()
        if path.is_file():
            content += path.read_bytes()
            if path.suffix == ".image":
                inner = pydicom.dcmread(io.BytesIO(unsealed(path.read_bytes(), None)))
                content += inner.to_json().encode() + inner.PixelData
            elif path.suffix == ".note":
                with zipfile.ZipFile(io.BytesIO(unsealed(path.read_bytes(), None))) as archive:
                    content += b"".join(archive.read(name) for name in archive.namelist())
    return content


@needs_orthanc
@pytest.mark.parametrize("kind", ["dicomweb", "pacs"])
def test_what_is_pulled_is_a_study_s_data(folder: SiteFolder, server: Orthanc, kind: str) -> None:
    connect(folder, server, kind, **TAGGED, data__text_check=kind == "pacs")
    first = pull(folder)
    assert first.exit_code == 0, first.output
    assert f"{PATIENTS * IMAGES} images of {PATIENTS} patients" in first.output
    assert "by no label" in first.output
    reading = read_site(folder, folder.config(), tiny_study(), KEY.pseudonym)
    facts = reading.facts
    assert (facts.images, facts.patients + facts.held_out) == (PATIENTS * IMAGES, PATIENTS)
    assert (facts.unit, facts.missing, facts.left_out) == ("patient", (), {})
    assert set(reading.site.training.labels.tolist()) == {0, 1}
    again = pull(folder)
    assert "0 objects received" in again.output
    assert f"{PATIENTS * IMAGES} images of {PATIENTS} patients" in again.output


@needs_orthanc
def test_nothing_in_the_site_s_folder_names_a_patient(folder: SiteFolder, server: Orthanc) -> None:
    connect(folder, server, **TAGGED)
    done = pull(folder)
    content = files(folder) + done.output.encode()
    header = image(1, study="7")
    values = [NAME, "Lovelace", header.PatientID, "ID-1815", "ACC-", "20240310", "unclear", "CT of the chest"]
    values += [f"2.25.{study}.1" for study in range(1, PATIENTS + 1)] + [server.url + "/studies"]
    assert [value for value in values if value.encode() in content] == []
    assert b"normal" in content  # what was looked through holds what it should
    for path in folder.pulled.rglob("*"):
        assert not path.stat().st_mode & 0o077 or path.is_file()
    assert folder.pulled in private_paths(folder)
    assert folder.too_open() == {}


@needs_orthanc
def test_pixels_are_those_of_the_archive_and_patients_are_keyed(folder: SiteFolder, server: Orthanc) -> None:
    from client.books import open_ledger

    connect(folder, server, source__cohort__study_descriptions='["*chest*"]')
    pull(folder)
    kept = current_objects(folder.pulled, None)
    with open_ledger(folder, folder.config()) as ledger:
        keys = {ledger.pseudonym(f"ID-1815-{study}") for study in range(2, PATIENTS + 1, 2)}
    assert {one.patient for one in kept} == keys
    originals = [image(number, study=str(study)) for study in range(2, PATIENTS + 1, 2) for number in (1, 2)]
    expected = {dataset.PixelData for dataset in originals}
    found = [pydicom.dcmread(io.BytesIO(unsealed(one.source.path.read_bytes(), None))) for one in kept]
    assert {dataset.PixelData for dataset in found} == expected
    assert {(d.Rows, d.BitsStored, float(d.RescaleIntercept)) for d in found} == {(32, 12, -1024.0)}


@needs_orthanc
def test_another_cohort_is_another_set(folder: SiteFolder, server: Orthanc) -> None:
    connect(folder, server)
    assert f"{PATIENTS * IMAGES + 1} images of {PATIENTS + 1} patients" in pull(folder).output
    configure(folder, source__cohort__study_descriptions='["*pneumonia*"]')
    assert f"{PATIENTS * IMAGES // 2} images of {PATIENTS // 2} patients" in pull(folder).output
    assert len(list((folder.pulled / "objects").iterdir())) == 2 * (PATIENTS * IMAGES // 2)
    assert f"{PATIENTS} objects received" in pull(folder, "--afresh").output


@needs_orthanc
def test_a_study_s_own_window_is_read_of_what_was_pulled(
    folder: SiteFolder, server: Orthanc, tmp_path: Path
) -> None:
    connect(folder, server, **TAGGED)
    pull(folder)
    data = folder.path / "files"
    data.mkdir()
    descriptions = ("CT of the chest", "CT, pneumonia?")
    for study in range(1, PATIENTS + 1):
        for number in range(1, IMAGES + 1):
            made = image(number, study=str(study), StudyDescription=descriptions[study % 2])
            (data / f"{study}-{number}.dcm").write_bytes(raw(made))

    def means(**changes: Any) -> list[float]:
        study = tiny_study(**changes)
        records = read_records(
            folder, folder.config(), as_here(folder, folder.config(), study.data), KEY.pseudonym
        )
        return sorted(round(float(picture.mean()), 5) for picture in records.images)

    pulled = {window: means(data__window=window) for window in ("lung", "bone")}
    assert pulled["lung"] != pulled["bone"]
    configure(
        folder, source__kind='"folder"', data__kind='"dicom"', data__path='"files"', data__patients='""'
    )
    assert {window: means(data__window=window) for window in ("lung", "bone")} == pulled


@needs_orthanc
def test_with_a_key_all_that_was_pulled_is_encrypted(folder: SiteFolder, server: Orthanc) -> None:
    connect(folder, server, **TAGGED)
    pull(folder)
    plain = {path.name: path.read_bytes() for path in (folder.pulled / "objects").iterdir()}
    key = bytes(range(32))
    (folder.path / "keys" / "cache.key").write_bytes(key)
    configure(folder, data__cache_key='"keys/cache.key"')
    with pytest.raises(IntegrityError, match=r"data\.cache_key"):
        read_site(folder, folder.config(), tiny_study(), KEY.pseudonym)
    assert f"{PATIENTS * IMAGES} images of" in pull(folder).output
    assert "0 objects received" in pull(folder).output
    for path in (*(folder.pulled / "objects").iterdir(), folder.pulled / "current"):
        content = path.read_bytes()
        assert json.loads(content.split(b"\n", 1)[0])["encrypted"]
        assert b"DICM" not in content
        assert b"normal" not in content
        assert content != plain.get(path.name)
    assert {str(note["label"]) for note in notes(folder, key)} == {"normal", "pneumonia"}
    reading = read_site(folder, folder.config(), tiny_study(), KEY.pseudonym)
    assert reading.facts.images == PATIENTS * IMAGES
    (folder.path / "keys" / "cache.key").write_bytes(bytes(32))
    with pytest.raises(IntegrityError, match="pull"):
        read_site(folder, folder.config(), tiny_study(), KEY.pseudonym)


@needs_orthanc
def test_a_patient_of_the_archive_withdraws_by_patient_id(folder: SiteFolder, server: Orthanc) -> None:
    from client.books import open_ledger

    connect(folder, server, **TAGGED)
    pull(folder)
    done = CliRunner().invoke(app, ["withdraw", "ID-1815-3", "--site", str(folder.path)])
    assert "in no round from now on" in done.output, done.output
    with open_ledger(folder, folder.config()) as ledger:
        reading = read_site(folder, folder.config(), tiny_study(), ledger.pseudonym)
    assert reading.facts.left_out == {"consent withdrawn": IMAGES}


@needs_samples
@needs_orthanc
def test_a_segmentation_in_the_archive_labels_its_images(folder: SiteFolder, tmp_path: Path) -> None:
    with zipfile.ZipFile(SAMPLES) as archive, orthanc(tmp_path / "orthanc") as server:
        names = [f"segmentations/ct-3slice/0{number}.dcm" for number in (1, 2, 3)]
        objects = [archive.read(name) for name in [*names, "segmentations/liver.dcm"]]
        server.store([pydicom.dcmread(io.BytesIO(content)) for content in objects])
        settings: dict[str, Any] = {
            "source__label__kind": '"seg"',
            "source__label__map": {"liver": "pneumonia"},
        }
        for kind in ("dicomweb", "pacs"):
            connect(folder, server, kind, **settings)
            settings.pop("source__label__map", None)
            done = pull(folder, "--afresh")
            assert "3 images of 1 patients" in done.output, done.output + str(done.exception)
            kept = notes(folder)
            assert {str(note["label"]) for note in kept} == {"pneumonia"}
            assert {note["mask"].shape for note in kept} == {(512, 512)}
            assert all(0 < note["mask"].mean() < 1 for note in kept)


@needs_orthanc
def test_the_check_says_whether_the_archive_answers(
    folder: SiteFolder, server: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.check, "steps_per_second", lambda *_, **__: 12.5)

    def found(name: str = "source", **options: bool) -> list[Finding]:
        return [finding for finding in preflight(folder, **options) if finding.name == name]

    configure(folder, data__kind='"npz"')
    assert found()[0].text == "images are files, as [data] says"
    connect(folder, server)
    assert f"{PATIENTS + 1} series of {PATIENTS + 1} studies" in found()[0].text
    assert "was not asked" in found(offline=True)[0].text
    assert "no images were pulled yet" in found("data")[0].text
    configure(folder, source__cohort__modalities='["MG"]')
    assert found()[0].state == "warning"
    configure(folder, source__url='"http://127.0.0.1:1/dicom-web"')
    assert (found()[0].state, "cannot be reached" in found()[0].text) == ("bad", True)


def test_mistakes_are_one_line_each(folder: SiteFolder) -> None:
    assert "source.kind = 'folder'" in wrong(pull(folder))
    configure(folder, source__kind='"dicomweb"', source__url='"https://pacs.example.org/dicom-web"')
    configure(folder, source__credentials='"secret"')
    assert "credentials secret: No such file" in wrong(pull(folder))
    (folder.path / "secret").write_text("a:b")
    (folder.path / "secret").chmod(0o644)
    assert "chmod 600" in wrong(pull(folder))
    with pytest.raises(ConfigError, match=r"source\.peer_title"):
        configure(folder, source__kind='"pacs"', source__host='"pacs"')


def test_images_that_were_not_pulled_yet_are_asked_for(folder: SiteFolder) -> None:
    configure(folder, source__kind='"dicomweb"', source__url='"https://pacs.example.org/dicom-web"')
    with pytest.raises(InputError, match="medgan-client pull"):
        read_site(folder, folder.config(), tiny_study(), KEY.pseudonym)
