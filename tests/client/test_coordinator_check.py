"""The coordinator's certificate and clock, from a real TLS server on loopback."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from client.check import preflight
from client.coordinator_check import ca_expiry, look
from client.site_file import CoordinatorSection
from medgan_core.errors import InputError
from tests.client.proxying import proxy
from tests.client.sites import configure, make_site


def certificate(folder: Path, days: float) -> None:
    """A certificate that is its own CA, for 127.0.0.1, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coordinator")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(made.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(pem)


class _Quiet(http.server.BaseHTTPRequestHandler):
    late = timedelta(0)

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return f"{datetime.now(UTC) - self.late:%a, %d %b %Y %H:%M:%S GMT}"

    def log_message(self, *_: object) -> None:
        pass


class _Late(_Quiet):
    late = timedelta(hours=1)


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients go away where they do not trust the certificate."""


@contextmanager
def serving(folder: Path, handler: type[_Quiet] = _Quiet) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "key.pem")
    server = _Server(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_certificate_and_clock_are_read(tmp_path: Path) -> None:
    certificate(tmp_path, days=90)
    with serving(tmp_path) as address:
        seen = look(CoordinatorSection(address=address), tmp_path / "ca.crt")
    assert seen.expires == ca_expiry(tmp_path / "ca.crt")
    assert seen.clock is not None
    assert abs(seen.clock - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_stranger_is_not_the_coordinator(tmp_path: Path) -> None:
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        certificate(tmp_path / name, days=90)
    with serving(tmp_path / "other") as address, pytest.raises(InputError, match=r"certificate|signed"):
        look(CoordinatorSection(address=address), tmp_path / "own" / "ca.crt")


def test_who_does_not_answer_is_named(tmp_path: Path) -> None:
    certificate(tmp_path, days=90)
    with serving(tmp_path) as address:
        pass
    with pytest.raises(InputError, match="does not answer"):
        look(CoordinatorSection(address=address), tmp_path / "ca.crt")
    for wrong in ("host", "host:port", ":1"):
        with pytest.raises(InputError, match="expected host:port"):
            look(CoordinatorSection(address=wrong), tmp_path / "ca.crt")
    with pytest.raises(InputError, match="proxy"):
        look(CoordinatorSection(address=address, proxy="nonsense"), tmp_path / "ca.crt")


def test_the_coordinator_is_reached_through_the_hospital_s_proxy(tmp_path: Path) -> None:
    certificate(tmp_path, days=90)
    with serving(tmp_path) as address, proxy({"127.0.0.1:443": int(address.rpartition(":")[2])}) as way:
        seen = look(CoordinatorSection(address="127.0.0.1:443", proxy=way.url), tmp_path / "ca.crt")
        assert seen.expires == ca_expiry(tmp_path / "ca.crt")
        with pytest.raises(InputError, match="does not answer"):
            look(CoordinatorSection(address="elsewhere.test:443", proxy=way.url), tmp_path / "ca.crt")
    assert way.asked == ["127.0.0.1:443", "elsewhere.test:443"]


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(InputError, match="no certificate"):
        ca_expiry(tmp_path / "ca.crt")


@pytest.mark.parametrize(
    ("days", "late", "states"),
    [
        (90, False, {"ok"}),
        (90, True, {"ok", "bad"}),
        (10, False, {"ok", "warning"}),
        (-1, False, {"bad"}),
    ],
)
def test_the_preflight_says_when_a_certificate_ends_and_whose_clock_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float, late: bool, states: set[str]
) -> None:
    monkeypatch.setattr("client.check.steps_per_second", lambda *_, **__: 1.0)
    certificate(tmp_path, days)
    folder = make_site(tmp_path / "site")
    with serving(tmp_path, _Late if late else _Quiet) as address:
        configure(
            folder,
            coordinator__address=f'"{address}"',
            coordinator__root_certificates=f'"{tmp_path / "ca.crt"}"',
        )
        findings = [finding for finding in preflight(folder) if finding.name == "coordinator"]
    assert {finding.state for finding in findings} == states
    assert all(finding.fix for finding in findings if finding.state != "ok")
