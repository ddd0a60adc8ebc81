"""Certificates: what they allow, for how long, who may read the keys, and when a person is warned."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from medgan_core.errors import InputError
from server import pki


@pytest.fixture
def made(tmp_path: Path) -> Path:
    pki.make_authority(tmp_path, "north")
    pki.make_server_certificate(tmp_path, ("fl.example.org", "192.0.2.7"))
    return tmp_path


def test_the_server_certificate_is_for_its_hosts_and_loopback(made: Path) -> None:
    certificate = pki.read_certificate(made / "server.pem")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.example.org", "localhost"]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["192.0.2.7", "127.0.0.1", "::1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    certificate.verify_directly_issued_by(pki.read_certificate(made / "ca.crt"))


def test_the_authority_may_sign_servers_and_nothing_below(made: Path) -> None:
    extensions = pki.read_certificate(made / "ca.crt").extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)


def test_private_keys_are_their_owner_s_alone(made: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in made.glob("*.key")} == {0o600}
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        made / "server.pem", made / "server.key"
    )


def test_renewing_keeps_the_authority(made: Path) -> None:
    before = pki.fingerprint(made / "ca.crt"), pki.fingerprint(made / "server.pem")
    pki.make_server_certificate(made, ())
    after = pki.fingerprint(made / "ca.crt"), pki.fingerprint(made / "server.pem")
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (pki.SERVER_DAYS - 31, ()),
        (pki.SERVER_DAYS - 29, ("server.pem expires in 29 days; renew it: medgan-server renew",)),
        (pki.SERVER_DAYS + 1, ("server.pem has expired: no site can connect; renew it",)),
        (pki.AUTHORITY_DAYS - 5, ("server.pem has expired", "ca.crt expires in 5 days; make and hand out")),
    ],
)
def test_a_person_is_warned_in_good_time(made: Path, days: int, words: tuple[str, ...]) -> None:
    told = pki.expiry_warnings(made, datetime.now(UTC) + timedelta(days=days))
    assert len(told) == len(words)
    assert all(word in line for word, line in zip(words, told, strict=True))


def test_a_certificate_of_yours_is_taken_with_its_authority(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    pki.take_certificate(folder, made / "server.pem", made / "server.key", made / "ca.crt")
    assert (folder / "server.pem").read_bytes() == (made / "server.pem").read_bytes()
    assert (folder / "server.key").stat().st_mode & 0o777 == 0o600
    assert not (folder / "ca.key").exists()
    with pytest.raises(InputError, match=r"ca\.key is not here: give a certificate of yours"):
        pki.make_server_certificate(folder, ())
    later = datetime.now(UTC) + timedelta(days=pki.SERVER_DAYS - 10)
    assert "takes a new one" in pki.expiry_warnings(folder, later)[0]


def test_what_does_not_belong_together_is_refused(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "stranger"
    other.mkdir()
    pki.make_authority(other, "stranger")
    with pytest.raises(InputError, match=r"ca\.key is not the key of server\.pem"):
        pki.take_certificate(other, made / "server.pem", made / "ca.key", made / "ca.crt")
    with pytest.raises(InputError, match=r"ca\.crt did not sign server\.pem"):
        pki.take_certificate(other, made / "server.pem", made / "server.key", other / "ca.crt")
    (other / "x.pem").write_text("nothing")
    with pytest.raises(InputError, match=r"x\.pem: expected a certificate in PEM"):
        pki.take_certificate(other, other / "x.pem", made / "server.key", made / "ca.crt")
    with pytest.raises(InputError, match=r"--host a b: expected a name or an address, without port"):
        pki.make_server_certificate(made, ("a b",))
