"""C-FIND and C-GET with pynetdicom's own SCP in a thread: TLS, refusals, silence, and what is not whole."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, SegmentationStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from medgan_core.data.pacs.cohort import Cohort
from medgan_core.data.pacs.dimse import CLASSES, Dimse, classes_of, tls_context
from medgan_core.errors import ConfigError, InputError, SourceError
from server.pki import make_authority, make_server_certificate
from tests.medgan_core.data.pacs.objects import image

Handler = Callable[[evt.Event], Iterator[Any]]


def _finds(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
    found = Dataset()
    found.StudyInstanceUID = "2.25.1"
    yield 0xFF00, found
    yield 0x0000, None


def _gives(event: evt.Event) -> Iterator[Any]:
    yield 2
    yield 0xFF00, image(1)
    yield 0xFF00, image(2)


def _out_of_order(event: evt.Event) -> Iterator[tuple[int, None]]:
    yield 0xA700, None


def _forbids(event: evt.Event) -> Iterator[tuple[int, None]]:
    yield 0x0124, None


def _silent(event: evt.Event) -> Iterator[tuple[int, None]]:
    threading.Event().wait(3)
    yield 0x0000, None


@contextmanager
def archive(
    finds: Handler = _finds, gives: Handler = _gives, context: ssl.SSLContext | None = None, **settings: Any
) -> Iterator[int]:
    """A PACS called PACS; its port."""
    entity = AE("PACS")
    for name, value in settings.items():
        setattr(entity, name, value)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    entity.add_supported_context(CTImageStorage, scu_role=True, scp_role=True)
    handlers: list[Any] = [(evt.EVT_C_FIND, finds), (evt.EVT_C_GET, gives)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=context)
    assert server is not None
    assert server.socket is not None
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()


def ask(port: int, **changes: Any) -> Dimse:
    settings: dict[str, Any] = {"peer": "PACS", "classes": (CTImageStorage,), "timeout": 5.0}
    return Dimse("127.0.0.1", port, **(settings | changes))


def test_a_pacs_is_asked_and_gives() -> None:
    got: list[bytes] = []
    with archive() as port:
        assert [study.StudyInstanceUID for study in ask(port).studies({})] == ["2.25.1"]
        ask(port).fetch("2.25.1", "2.25.1.1", got.append)
    assert [content[128:132] for content in got] == [b"DICM", b"DICM"]


@pytest.mark.parametrize(
    ("settings", "why", "passing"),
    [
        ({"require_called_aet": True, "ae_title": "ELSE"}, "it is not called PACS", False),
        ({"require_calling_aet": ["ELSE"]}, "it does not know MEDGAN", False),
        ({"finds": _out_of_order}, "C-FIND ended with status A700", True),
        ({"finds": _forbids}, "it does not allow C-FIND to MEDGAN", False),
    ],
)
def test_a_no_is_one_line(settings: dict[str, Any], why: str, passing: bool) -> None:
    with archive(**settings) as port, pytest.raises(SourceError, match=why) as caught:
        ask(port).studies({})
    assert caught.value.passing == passing


def test_silence_ends_with_the_timeout() -> None:
    with archive(finds=_silent) as port, pytest.raises(SourceError, match="took longer than 1 s") as caught:
        ask(port, timeout=1.0).studies({})
    assert caught.value.passing


def test_an_object_that_is_not_taken_ends_the_transfer() -> None:
    def receive(content: bytes) -> None:
        raise OSError("full")

    with archive() as port, pytest.raises(OSError, match="full"):
        ask(port).fetch("2.25.1", "2.25.1.1", receive)


def test_over_tls_the_pacs_is_verified(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    make_authority(tmp_path / "tls", "test")
    make_server_certificate(tmp_path / "tls", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls" / "server.pem", tmp_path / "tls" / "server.key")
    with archive(context=context) as port:
        trusting = ask(port, tls=tls_context(tmp_path / "tls" / "ca.crt"))
        assert len(trusting.studies({})) == 1
        with pytest.raises(SourceError, match="cannot be reached"):
            ask(port, tls=tls_context(None)).studies({})


def test_certificates_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(InputError, match=name) as caught:
            tls_context(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"peer": ""}, "peer_title"),
        ({"peer": "A" * 17}, "peer_title"),
        ({"title": "Köln"}, r"source\.title"),
        ({"host": ""}, r"source\.host"),
    ],
)
def test_wrong_titles_and_places_are_named(changes: dict[str, Any], name: str) -> None:
    settings: dict[str, Any] = {"host": "h", "port": 104, "peer": "PACS"} | changes
    with pytest.raises(ConfigError, match=name):
        Dimse(**settings)


def test_classes_follow_the_cohort() -> None:
    assert classes_of(Cohort(), segmentations=False) == CLASSES
    assert classes_of(Cohort(modalities=("CT", "PT")), segmentations=False) == CLASSES
    assert classes_of(Cohort(sop_classes=("CTImageStorage",)), segmentations=True) == (
        CTImageStorage,
        SegmentationStorage,
    )
