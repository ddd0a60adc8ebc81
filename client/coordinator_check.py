"""The coordinator's certificate and clock, seen from the hospital. Nothing of the site is sent."""

import http.client
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from client.site_file import CoordinatorSection
from medgan_core.errors import InputError

_PATIENCE = 5.0
SOON = timedelta(days=30)
SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Seen:
    """What a coordinator showed: until when its certificate is good, and its clock, if it tells."""

    expires: datetime
    clock: datetime | None


def ca_expiry(path: Path) -> datetime:
    """Until when the CA certificate is good. InputError where it is missing or none."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
        return min(certificate.not_valid_after_utc for certificate in found)
    except OSError as error:
        raise InputError(f"{path.name}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path.name} is no certificate in PEM form") from None


def look(section: CoordinatorSection, ca: Path) -> Seen:
    """Connect as the node will, through the proxy if there is one. InputError with the cause."""
    host, port = _split(section.address)
    context = ssl.create_default_context(cafile=str(ca))
    connection = _connection(host, port, section.proxy, context)
    try:
        connection.request("HEAD", "/")
        raw = connection.sock.getpeercert(binary_form=True)
        told = connection.getresponse().headers.get("Date")
    except ssl.SSLCertVerificationError as error:
        raise InputError(f"{section.address}: {error.verify_message}") from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"{section.address} does not answer: {cause}") from None
    finally:
        connection.close()
    expires = x509.load_der_x509_certificate(raw or b"").not_valid_after_utc
    return Seen(expires, _clock(told))


def _connection(host: str, port: int, proxy: str, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    if not proxy:
        return http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=context)
    through = urlsplit(proxy)
    if not through.hostname:
        raise InputError(f"coordinator.proxy = {proxy!r}: expected http://host:port")
    made = http.client.HTTPSConnection(
        through.hostname, through.port or 3128, timeout=_PATIENCE, context=context
    )
    made.set_tunnel(host, port)
    return made


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"coordinator.address = {address!r}: expected host:port")
    return host.strip("[]"), int(port)


def _clock(told: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(told).astimezone(UTC) if told else None
    except ValueError:
        return None
