"""The site's own person finds a refused file by its hash, on the screen alone."""

import zipfile
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.books import open_ledger
from client.cli import app
from client.folder import SiteFolder
from client.hospital import as_here, read_records
from client.quarantine import quarantine
from medgan_core.errors import InputError, IntegrityError, MedGANError
from tests.client.sites import configure, make_site
from tests.medgan_core.data.dicom.making import sample, saved
from tests.server.making import tiny_study

BAD = {"Doe_John/empty.dcm": ("empty", b""), "Doe_Jane/noise.dcm": ("not_dicom", b"no image at all")}


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    """A good file, two bad ones in folders that name patients, and a bad one in a zip; all read."""
    made = make_site(tmp_path / "site")
    data = made.path / "data"
    for name, (_, content) in ({"good.dcm": ("", saved(sample("CT_small.dcm")))} | BAD).items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    with zipfile.ZipFile(data / "old.zip", "w") as archive:
        archive.writestr("Doe_Jim.dcm", saved(sample("CT_small.dcm", SyntheticData="YES")))
    changes = {"kind": '"dicom"', "path": '"data"', "patients": '""', "text_check": "false"}
    configure(made, **{f"data__{key}": value for key, value in changes.items()}, source__label__label='"a"')
    read(made)
    return made


def read(folder: SiteFolder) -> None:
    config = folder.config()
    with open_ledger(folder, config) as ledger:
        read_records(folder, config, as_here(folder, config, tiny_study().data), ledger.pseudonym)


def ask(folder: SiteFolder, *options: str) -> Result:
    return CliRunner().invoke(app, ["quarantine", "--site", str(folder.path), *options])


def of(folder: SiteFolder, reason: str) -> str:
    (key,) = [entry.key for entry in quarantine(folder) if entry.reason == reason]
    return key


def test_the_list_has_hashes_and_reasons_and_no_name(folder: SiteFolder) -> None:
    said = ask(folder).output
    for reason, words in (
        ("empty", "the file is empty"),
        ("not_dicom", "no DICOM file"),
        ("synthetic", "YES"),
    ):
        assert f"{of(folder, reason)}  {reason}" in said
        assert words in said
    assert "3 files are in the quarantine" in said
    assert "Doe" not in said


@pytest.mark.parametrize("name", list(BAD))
def test_a_hash_leads_to_its_file_on_the_screen_alone(folder: SiteFolder, name: str) -> None:
    key = of(folder, BAD[name][0])
    for digits in (key, key[:8], key[:12].upper()):
        assert ask(folder, "--where", digits).output.strip() == str(folder.path / "data" / name)
    own = [path for path in folder.path.rglob("*") if path.is_file() and "data" not in path.parts]
    assert own
    assert not [path.name for path in own if b"Doe_" in path.read_bytes()]


def test_a_file_in_a_zip_is_found_by_folder_and_by_manifest(folder: SiteFolder) -> None:
    expected = f"{folder.path / 'data' / 'old.zip'}: Doe_Jim.dcm"
    assert ask(folder, "--where", of(folder, "synthetic")).output.strip() == expected
    (folder.path / "data" / "manifest.csv").write_text("file,label\nDoe_Jim.dcm,a\ngood.dcm,a\n")
    read(folder)
    assert ask(folder, "--where", of(folder, "synthetic")).output.strip() == expected


def wrong(result: Result, kind: type[MedGANError]) -> str:
    assert isinstance(result.exception, kind), result.output
    assert "Doe" not in str(result.exception)
    return str(result.exception)


def test_mistakes_are_one_line_each(folder: SiteFolder) -> None:
    key = of(folder, "empty")
    assert "fits 1 entries" in wrong(ask(folder, "--where", key[:7]), InputError)
    assert "fits 0 entries" in wrong(ask(folder, "--where", "0" * 32), InputError)
    (folder.path / "data" / "Doe_John" / "empty.dcm").unlink()
    assert "any more" in wrong(ask(folder, "--where", key), InputError)
    configure(folder, source__kind='"dicomweb"', source__url='"https://pacs.example.org/dicom-web"')
    assert "has no file here" in wrong(ask(folder, "--where", key), InputError)
    (folder.cache / "ingest.json").write_text("[]")
    wrong(ask(folder), IntegrityError)
    (folder.cache / "ingest.json").unlink()
    assert "medgan-client check" in wrong(ask(folder), InputError)
