"""Servers that are not as they should be: each is a line for a person, without an address or a UID in it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from medgan_core.data.pacs.credentials import Credentials
from medgan_core.data.pacs.dicomweb import DicomWeb
from medgan_core.errors import ConfigError, InputError, SourceError
from tests.medgan_core.data.pacs.objects import image, raw

pytestmark = (
    pytest.mark.filterwarnings(  # urllib3 leaves the socket of an answer that was cut to the collector
        "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    )
)
Ask = Callable[..., DicomWeb]
DICOM = raw(image())


class _Handler(BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    seen: list[str] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        kind = self.path.split("/")[1]
        if kind.isdigit():
            return self._answer(int(kind), "text/plain", b"")
        if kind == "slow":
            threading.Event().wait(3)
            return None
        if kind == "pages":  # gives three at a time, and begins again after the last
            offset = int(self.path.split("offset=")[1].split("&")[0]) % 7
            told = [
                {"0020000D": {"vr": "UI", "Value": [f"2.25.{n}"]}} for n in range(offset, min(offset + 3, 7))
            ]
            return self._answer(200, "application/dicom+json", json.dumps(told).encode())
        bodies = {
            "html": ("text/html", b"<html>Welcome</html>"),
            "number": ("application/json", b"[1]"),
            "single": ("application/dicom", DICOM),
            "cut": ("multipart/related; boundary=x", b"--x\r\n\r\n" + DICOM),
            "other": ("text/html", b"<html>"),
        }
        return self._answer(200, *bodies[kind], longer=900 if kind == "cut" else 0)

    def _answer(self, status: int, kind: str, body: bytes, longer: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) + longer))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Clients that are closed in the end."""
    made: list[DicomWeb] = []

    def new(*arguments: Any, **named: Any) -> DicomWeb:
        made.append(DicomWeb(*arguments, **named))
        return made[-1]

    yield new
    for client in made:
        client.close()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.mark.parametrize(
    ("kind", "why", "passing"),
    [
        ("401", "does not accept the credentials", False),
        ("403", "does not let these credentials read", False),
        ("404", "mind source.url", False),
        ("429", "asked too often", True),
        ("503", "it answers 503", True),
        ("html", "no DICOMweb", False),
        ("number", "no DICOMweb", False),
        ("slow", "no answer within 1 s", True),
    ],
)
def test_an_answer_that_is_none_is_one_line(
    ask: Ask, server: str, kind: str, why: str, passing: bool
) -> None:
    with pytest.raises(SourceError, match=why) as caught:
        ask(f"{server}/{kind}", timeout=1).studies({"StudyDate": "20240310-"})
    assert caught.value.passing == passing
    assert "20240310" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("kind", "why", "passing"),
    [("404", "mind source.url", True), ("cut", "cannot be reached", True), ("other", "no DICOMweb", False)],
)
def test_a_series_that_does_not_come_is_one_line(
    ask: Ask, server: str, kind: str, why: str, passing: bool
) -> None:
    with pytest.raises(SourceError, match=why) as caught:
        ask(f"{server}/{kind}").fetch("2.25.77", "2.25.77.1", lambda content: None)
    assert caught.value.passing == passing
    assert "2.25.77" not in str(caught.value)


def test_a_server_that_sends_a_single_object_bare_is_understood(ask: Ask, server: str) -> None:
    got: list[bytes] = []
    ask(f"{server}/single").fetch("2.25.1", "2.25.1.1", got.append)
    assert got == [DICOM]


def test_all_pages_of_an_answer_are_read_once(ask: Ask, server: str) -> None:
    found = ask(f"{server}/pages").studies({})
    assert [study.StudyInstanceUID for study in found] == [f"2.25.{n}" for n in range(7)]


@pytest.mark.parametrize(
    ("secret", "sent"),
    [
        (Credentials(token="t0ken"), "Bearer t0ken"),
        (Credentials("a", "b"), "Basic YTpi"),
        (Credentials(), ""),
    ],
)
def test_credentials_are_sent_as_they_are_meant(
    ask: Ask, server: str, secret: Credentials, sent: str
) -> None:
    ask(f"{server}/pages", secret).studies({})
    assert _Handler.seen[-1] == sent


def test_credentials_do_not_go_in_the_clear_to_another_machine(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in the clear"):
        DicomWeb("http://pacs.example.org/dicom-web", Credentials("a", "b"))
    DicomWeb("https://pacs.example.org/dicom-web", Credentials("a", "b"))
    for url in ("pacs.example.org", "ftp://pacs.example.org", "https://a:b@pacs.example.org/dicom-web"):
        with pytest.raises(ConfigError, match=r"source\.url"):
            DicomWeb(url)
    with pytest.raises(InputError, match=r"ca ca\.pem"):
        DicomWeb("https://pacs.example.org", ca=tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("medgan:päss:word\n", Credentials("medgan", "päss:word")),
        ("bearer abc.def==", Credentials(token="abc.def==")),
    ],
)
def test_credentials_are_a_line_of_a_closed_file(tmp_path: Path, line: str, expected: Credentials) -> None:
    path = tmp_path / "secret"
    path.write_text(line, encoding="utf-8")
    path.chmod(0o600)
    assert Credentials.read(path) == expected
    assert repr(expected) == "Credentials()"


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"a:topsecret", 0o640, "chmod 600"),
        (b"topsecret", 0o600, "user:password"),
        (b"", 0o600, "one line"),
        (b"a:topsecret\nc:d", 0o600, "one line"),
        (b"\xff\xfe:", 0o600, "no text"),
        (None, 0o600, "No such file"),
    ],
)
def test_other_files_are_refused_and_not_shown(
    tmp_path: Path, content: bytes | None, mode: int, why: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(InputError, match=why) as caught:
        Credentials.read(path)
    assert "topsecret" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
