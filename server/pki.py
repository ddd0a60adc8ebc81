"""The coordinator's certificates: a small authority of its own that signs one server certificate.

ECDSA on P-256 throughout. Hospitals get `ca.crt` out of band and trust nothing else.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from medgan_core.errors import InputError
from medgan_core.record import write_atomically

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397  # what browsers accept at most; renewing is one command
WARNING_DAYS = 30
_LOCAL = ("localhost", "127.0.0.1", "::1")
_SKEW = timedelta(hours=1)  # of clocks at the hospitals


def write_secret(path: Path, content: bytes) -> None:
    """A file that its owner alone may read, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make_authority(folder: Path, name: str) -> None:
    """Make `ca.key` and `ca.crt`, an authority that may sign servers and nothing below it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(f"MedGAN coordinator {name}"[:64])
    builder = _builder(subject, subject, key.public_key(), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
    )
    _write(folder / "ca", builder.sign(key, SHA256()), key, ".crt")


def make_server_certificate(folder: Path, hosts: Sequence[str]) -> None:
    """Make `server.key` and `server.pem` for these hosts and loopback, signed by the folder's authority.

    Raises InputError where there is no authority with its key, or a host is neither name nor address.
    """
    authority = read_certificate(folder / "ca.crt")
    signer = _authority_key(folder / "ca.key")
    key = ec.generate_private_key(ec.SECP256R1())
    names = [_alternative(host) for host in dict.fromkeys((*hosts, *_LOCAL))]
    builder = _builder(
        _named((hosts[0] if hosts else "localhost")[:64]), authority.subject, key.public_key(), SERVER_DAYS
    )
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(names), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    _write(folder / "server", builder.sign(signer, SHA256()), key, ".pem")


def take_certificate(folder: Path, certificate: Path, key: Path, authority: Path) -> None:
    """Copy a certificate, its key and the certificate of its authority, after a look at them.

    Raises InputError where one cannot be read, the key is another one, or the authority did not sign it.
    """
    chain, secret, root = (_read(path) for path in (certificate, key, authority))
    leaf = read_certificate(certificate)
    try:
        private = serialization.load_pem_private_key(secret, None)
    except (TypeError, ValueError) as error:
        raise InputError(f"{key.name}: expected a private key in PEM without a password") from error
    if private.public_key() != leaf.public_key():
        raise InputError(f"{key.name} is not the key of {certificate.name}: give the pair")
    chained = [*x509.load_pem_x509_certificates(chain), *x509.load_pem_x509_certificates(root)]
    if leaf.issuer not in {c.subject for c in chained[1:]}:
        raise InputError(f"{authority.name} did not sign {certificate.name}: give the authority that did")
    write_atomically(folder / "ca.crt", root)
    write_atomically(folder / "server.pem", chain)
    write_secret(folder / "server.key", secret)


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file. Raises InputError naming the file."""
    try:
        return x509.load_pem_x509_certificates(_read(path))[0]
    except ValueError as error:
        raise InputError(f"{path.name}: expected a certificate in PEM") from error


def fingerprint(path: Path) -> str:
    """SHA-256 of a certificate in hex, for comparing out of band."""
    return ":".join(f"{byte:02X}" for byte in read_certificate(path).fingerprint(SHA256()))


def days_left(path: Path, now: datetime | None = None) -> float:
    """Days until a certificate expires; negative where it has."""
    left = read_certificate(path).not_valid_after_utc - (now or datetime.now(UTC))
    return left / timedelta(days=1)


def expiry_warnings(folder: Path, now: datetime | None = None) -> tuple[str, ...]:
    """A line for each certificate of the folder that expires within 30 days, with what to do."""
    renew = "make and hand out new ones: medgan-server init in a new folder"
    if (folder / "ca.key").exists():
        ways = {"server.pem": "renew it: medgan-server renew", "ca.crt": renew}
    else:
        ways = dict.fromkeys(
            ("server.pem", "ca.crt"), "medgan-server renew --certificate … --key … --ca … takes a new one"
        )
    told = []
    for name, way in ways.items():
        left = days_left(folder / name, now)
        if left < WARNING_DAYS:
            when = f"expires in {left:.0f} days" if left > 0 else "has expired: no site can connect"
            told.append(f"certificate {name} {when}; {way}")
    return tuple(told)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        if not host or any(c in host for c in " /:@"):
            raise ValueError
        return x509.DNSName(host)
    except ValueError as error:
        raise InputError(f"--host {host}: expected a name or an address, without port") from error


def _write(stem: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, suffix: str) -> None:
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_secret(stem.with_suffix(".key"), secret)
    write_atomically(stem.with_suffix(suffix), certificate.public_bytes(serialization.Encoding.PEM))


def _authority_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        raise InputError(f"{path.name} is not here: give a certificate of yours with --certificate and --key")
    key = serialization.load_pem_private_key(_read(path), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path.name}: expected the ECDSA key that init made")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}") from error
