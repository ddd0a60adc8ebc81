"""Storing to a real Orthanc over DICOMweb and over C-STORE, and what goes wrong on the way."""

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pynetdicom import AE, evt

from medgan_core.data.pacs.credentials import Credentials
from medgan_core.errors import InputError, RefusedError
from medgan_core.release.dicom.cstore import ClassicArchive
from medgan_core.release.dicom.delivery import Item, Outcome, collect, complaint, send
from medgan_core.release.dicom.stow import DicomWebArchive
from tests.medgan_core.release.dicom.making import files, read
from tests.orthanc import LEAKY, TITLE, Orthanc, needs_orthanc, orthanc

pytestmark = LEAKY
DX = "1.2.840.10008.5.1.4.1.1.1.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("server") / "orthanc", users={"ann": "söcret"}) as running:
        yield running


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    path = tmp_path / "password"
    path.write_text("ann:söcret\n", encoding="utf-8")
    path.chmod(0o600)
    return Credentials.read(path)


def stored(server: Orthanc) -> set[str]:
    import requests

    session = requests.Session()
    session.auth = requests.auth.HTTPBasicAuth(b"ann", "söcret".encode())
    client = DICOMwebClient(server.url, session)
    return {found["00080018"]["Value"][0] for found in client.search_for_instances()}


def test_synthetic_files_alone_are_collected(cohort: Path) -> None:
    items = collect(cohort)
    assert [item.path for item in items] == files(cohort)
    assert {item.uid for item in items} == {d.SOPInstanceUID for d in read(cohort)}


@pytest.mark.parametrize("mark", [None, "NO", ""])
def test_a_file_without_the_mark_stops_everything(cohort: Path, tmp_path: Path, mark: str | None) -> None:
    for number, path in enumerate(files(cohort)[:2]):
        dataset = pydicom.dcmread(path)
        if number:
            dataset.SyntheticData = mark
            if mark is None:
                del dataset.SyntheticData
        dataset.save_as(tmp_path / f"{number}.dcm")
    with pytest.raises(RefusedError, match=r"1\.dcm is not marked SyntheticData = YES: nothing was sent"):
        collect(tmp_path)


def test_folders_without_anything_to_send(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no DICOM file"):
        collect(tmp_path)
    with pytest.raises(InputError, match="expected a release, or a folder"):
        collect(tmp_path / "nowhere")
    (tmp_path / "bad").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    with pytest.raises((InputError, RefusedError), match="bad"):
        collect(tmp_path)


@needs_orthanc
def test_dicomweb_stores_all_of_them(server: Orthanc, cohort: Path, credentials: Credentials) -> None:
    items = collect(cohort)
    heard: list[Outcome] = []
    assert send(items, DicomWebArchive(server.url, credentials), heard.append) == []
    assert [outcome.why for outcome in heard] == [""] * len(items)
    assert stored(server) >= {item.uid for item in items}
    assert send(items, DicomWebArchive(server.url, credentials)) == []  # again: nothing new, no failure


@needs_orthanc
def test_a_classic_pacs_stores_all_of_them(server: Orthanc, cohort: Path) -> None:
    items = collect(cohort)
    assert send(items, ClassicArchive.of(f"{TITLE}@127.0.0.1:{server.dicom}")) == []
    assert stored(server) >= {item.uid for item in items}


@needs_orthanc
def test_wrong_credentials_and_titles_are_told(server: Orthanc, cohort: Path) -> None:
    items = collect(cohort)[:2]
    failed = send(items, DicomWebArchive(server.url, Credentials("ann", "wrong")))
    assert [outcome.why for outcome in failed] == ["the server answers 401"] * 2
    failed = send(items, ClassicArchive.of(f"OTHER@127.0.0.1:{server.dicom}"), pause=0)
    assert "does not know this AE title" in failed[0].why
    assert items[0].name in str(complaint(failed, 2))


def test_nobody_listens(cohort: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    items = collect(cohort)[:1]
    for archive in (
        ClassicArchive("X", "127.0.0.1", port),
        DicomWebArchive(f"http://127.0.0.1:{port}/dicom-web"),
    ):
        (outcome,) = send(items, archive, pause=0)
        assert "cannot be reached" in outcome.why


def test_a_pacs_that_takes_some_files_is_told_by_name(cohort: Path) -> None:
    """A real peer: it takes DX alone, is out of resources once, and refuses one file for good."""
    items = [item for item in collect(cohort) if item.sop_class == DX] + collect(cohort)[:1]
    refused, tries = items[1].uid, []

    def on_store(event: evt.Event) -> int:
        uid = event.dataset.SOPInstanceUID
        tries.append(uid)
        if uid == refused:
            return 0xC000
        return 0xA700 if tries.count(uid) == 1 else 0x0000

    peer = AE("PEER")
    peer.add_supported_context(DX)
    listening: Any = peer.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )
    try:
        port = listening.socket.getsockname()[1]
        failed = send(items, ClassicArchive("PEER", "127.0.0.1", port), pause=0)
    finally:
        listening.shutdown()
    assert {(outcome.item.name, outcome.why) for outcome in failed} == {
        (items[1].name, "it says no (0xc000)"),
        (items[-1].name, "the PACS does not take this SOP class"),
    }
    assert len(tries) == 2 * 2 + 1


def test_what_passes_is_tried_again_and_then_told() -> None:
    class Moody:
        def __init__(self, well_after: int) -> None:
            self.asked, self.well_after = 0, well_after

        def store(self, items: Sequence[Item]) -> list[Outcome]:
            self.asked += 1
            why = "" if self.asked > self.well_after else "busy"
            return [Outcome(item, why, passing=bool(why)) for item in items]

    items = [Item(Path("a"), "a", DX, "2.25.1"), Item(Path("b"), "b", DX, "2.25.2")]
    assert send(items, Moody(2), pause=0) == []
    heard: list[Outcome] = []
    failed = send(items, Moody(9), heard.append, pause=0)
    assert failed == heard
    assert [outcome.why for outcome in failed] == ["busy", "busy"]
    assert str(complaint(failed * 4, 9)).startswith("8 of 9 files were not stored: a: busy; b: busy; ")
    assert "and 3 more" in str(complaint(failed * 4, 9))


@pytest.mark.parametrize(
    "target", ["PACS", "PACS@host", "@host:104", "PACS@host:0", "PACS@host:99999", "A" * 17 + "@host:104"]
)
def test_addresses_that_cannot_be(target: str) -> None:
    with pytest.raises(InputError, match="--to"):
        ClassicArchive.of(target)


def test_passwords_do_not_travel_in_the_clear() -> None:
    with pytest.raises(InputError, match="expected https"):
        DicomWebArchive("http://pacs.example.org/dicom-web", Credentials("ann", "secret"))
    with pytest.raises(InputError, match="--to"):
        DicomWebArchive("https://ann:secret@pacs.example.org/dicom-web")
    assert "secret" not in repr(DicomWebArchive("https://pacs/dicom-web", Credentials("ann", "secret")))
