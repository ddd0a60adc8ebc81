"""A real Orthanc, asked by DICOMweb and by C-FIND and C-GET: the same answers, a line for each mistake."""

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage

from medgan_core.data.pacs.cohort import Cohort
from medgan_core.data.pacs.credentials import Credentials
from medgan_core.data.pacs.dicomweb import DicomWeb
from medgan_core.data.pacs.dimse import Dimse, classes_of
from medgan_core.data.pacs.finding import Terms
from medgan_core.data.pacs.headers import quiet
from medgan_core.data.pacs.ledger import PullLedger
from medgan_core.data.pacs.pull import Puller
from medgan_core.data.pacs.source import Source
from medgan_core.errors import SourceError
from medgan_core.privacy.site_key import SiteKey
from tests.medgan_core.data.pacs.objects import image, raw
from tests.orthanc import LEAKY, TITLE, Orthanc, needs_orthanc, orthanc

pytestmark = [needs_orthanc, LEAKY]
COMPRESSED = ("JPEG2000.dcm", "MR_small_RLE.dcm", "JPEG-lossy.dcm")
CLASSES = (CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage)
USER = Credentials("medgan", "päss:word")


def stored() -> list[Dataset]:
    """Six studies: four of a cohort, and three compressed images of two others."""
    plain = [image(number, study=str(study)) for study in (1, 2, 3, 4) for number in (1, 2, 3)]
    with quiet():
        return plain + [pydicom.dcmread(str(get_testdata_file(name))) for name in COMPRESSED]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("o") / "orthanc") as running:
        running.store(stored())
        yield running


@pytest.fixture(params=["dicomweb", "dimse"])
def source(request: pytest.FixtureRequest, server: Orthanc) -> Iterator[Source]:
    web = request.param == "dicomweb"
    made: Source = (
        DicomWeb(server.url, timeout=20) if web else Dimse("127.0.0.1", server.dicom, TITLE, classes=CLASSES)
    )
    with closing(made):
        yield made


def test_both_find_what_is_there(source: Source) -> None:
    assert len(source.studies({})) == 6
    assert {study.StudyInstanceUID for study in source.studies({"StudyDate": "20240301-20240331"})} == {
        f"2.25.{study}" for study in (1, 2, 3, 4)
    }
    [series] = source.series("2.25.1")
    assert (series.SeriesInstanceUID, series.Modality) == ("2.25.1.1", "CT")
    assert source.objects("2.25.1", "2.25.1.1") == {f"2.25.1.1.{number}" for number in (1, 2, 3)}


def test_both_fetch_the_bytes_that_were_stored(source: Source) -> None:
    got: list[bytes] = []
    source.fetch("2.25.1", "2.25.1.1", got.append)
    here = {dataset.SOPInstanceUID: dataset for dataset in map(_read, got)}
    wanted = [_read(raw(image(number, study="1"))) for number in (1, 2, 3)]
    assert here == {dataset.SOPInstanceUID: dataset for dataset in wanted}


def pulled(source: Source, cohort: Cohort, folder: Path) -> tuple[list[bytes], dict[str, int]]:
    """What came of a cohort, and what was refused after it had come."""
    got: list[bytes] = []
    key = SiteKey(b"k" * 32)
    with PullLedger(folder / "ledger") as ledger:
        puller = Puller(
            source, Terms(cohort), lambda name, content: got.append(content), ledger, key.pseudonym
        )
        assert puller.run().failed == 0
        return got, dict(ledger.refused())


def test_both_leave_compressed_pixels_as_they_are(source: Source, tmp_path: Path) -> None:
    got, _ = pulled(source, Cohort(), tmp_path)
    assert len(got) == 15
    with quiet():
        syntaxes = {dataset.file_meta.TransferSyntaxUID for dataset in map(_read, got)}
        assert syntaxes == {dataset.file_meta.TransferSyntaxUID for dataset in stored()}


def test_what_receiving_raises_ends_the_transfer(source: Source) -> None:
    seen: list[bytes] = []

    def receive(content: bytes) -> None:
        seen.append(content)
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        source.fetch("2.25.1", "2.25.1.1", receive)
    assert len(seen) == 1


def test_what_is_not_filtered_by_the_server_is_refused_here(source: Source, tmp_path: Path) -> None:
    """A query tells nothing of a body part that an image does not have: its header decides."""
    got, refused = pulled(source, Cohort(body_parts=("CHEST",), study_descriptions=("*chest*",)), tmp_path)
    with quiet():
        assert sorted(_read(content).StudyInstanceUID for content in got) == sorted(
            f"2.25.{study}" for study in (1, 2, 3, 4) for _ in range(3)
        )
    assert set(refused) <= {"body part", "study description"}


def test_fewer_classes_for_a_modality_still_get_its_images(server: Orthanc) -> None:
    classes = classes_of(Cohort(modalities=("CT",)), segmentations=False)
    assert len(classes) == 2
    got: list[bytes] = []
    Dimse("127.0.0.1", server.dicom, TITLE, classes=classes).fetch("2.25.1", "2.25.1.1", got.append)
    assert len(got) == 3


def test_a_pacs_answers_an_echo(server: Orthanc) -> None:
    Dimse("127.0.0.1", server.dicom, TITLE).echo()


@pytest.mark.parametrize(
    ("changes", "why", "passing"),
    [
        ({"peer": "OTHER"}, "it is not called OTHER", False),
        ({"title": "NOBODY"}, "whether it knows NOBODY", True),
        ({"port": 1}, "it cannot be reached", True),
        ({"host": "no.such.host.invalid"}, "no machine is called no.such.host.invalid", True),
    ],
)
def test_a_wrong_title_or_place_is_one_line(
    server: Orthanc, changes: dict[str, Any], why: str, passing: bool
) -> None:
    settings: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": server.dicom,
        "peer": TITLE,
        "timeout": 10.0,
    } | changes
    with pytest.raises(SourceError, match=why) as caught:
        Dimse(**settings).studies({})
    assert caught.value.passing == passing


def test_a_port_that_speaks_something_else_is_no_pacs(server: Orthanc) -> None:
    with pytest.raises(SourceError, match="broke off before it agreed"):
        Dimse("127.0.0.1", server.http, TITLE, timeout=5).studies({})


@pytest.mark.parametrize(
    ("url", "why", "passing"),
    [
        ("http://127.0.0.1:{http}/dicom", "nothing is there", False),
        ("http://127.0.0.1:1/dicom-web", "it cannot be reached", True),
        ("https://127.0.0.1:{http}/dicom-web", "its certificate is not trusted", False),
    ],
)
def test_a_wrong_address_is_one_line(server: Orthanc, url: str, why: str, passing: bool) -> None:
    web = DicomWeb(url.format(http=server.http))
    with closing(web), pytest.raises(SourceError, match=why) as caught:
        web.studies({})
    assert caught.value.passing == passing


def test_credentials_open_a_server_and_a_wrong_password_does_not(tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc", users={"medgan": USER.password}) as server:
        with closing(DicomWeb(server.url, USER)) as right:
            assert right.studies({}) == []
        for secret in (Credentials("medgan", "guessed"), Credentials()):
            with closing(DicomWeb(server.url, secret)) as wrong:
                with pytest.raises(SourceError, match="does not accept the credentials") as caught:
                    wrong.studies({})
                assert not caught.value.passing
                assert "guessed" not in repr(wrong)


def _read(content: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(content))
