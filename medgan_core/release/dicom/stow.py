"""Storing to a DICOMweb server: STOW-RS (PS3.18 section 10.5)."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient
from pydicom import Dataset, dcmread
from requests.auth import HTTPBasicAuth

from medgan_core.data.pacs.credentials import Credentials
from medgan_core.errors import InputError
from medgan_core.release.dicom.delivery import Item, Outcome

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BATCH_FILES, _BATCH_BYTES = 50, 32 * 2**20
_SECONDS = 60
_LATER = (408, 425, 429, 500, 502, 503, 504)
_REASONS = {0x0110: "processing failed", 0x0122: "its SOP class is not supported", 0x0124: "not authorized"}

for _name in ("dicomweb_client", "retrying"):  # they log whole addresses, and tracebacks
    logging.getLogger(_name).propagate = False
    logging.getLogger(_name).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class DicomWebArchive:
    """A server at `url`, its DICOMweb root; `ca` has its certificate authority, None: the system's.

    Raises InputError where credentials would travel in the clear.
    """

    url: str
    credentials: Credentials = field(default_factory=Credentials)
    ca: Path | None = None
    _client: DICOMwebClient = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise InputError(
                f"--to {parts.hostname or self.url}: expected an address such as https://pacs/dicom-web"
            )
        if self.credentials and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise InputError(
                f"--to {parts.hostname}: expected https, since credentials would be read on the way"
            )
        client = DICOMwebClient(self.url.rstrip("/"), self._session(), permissive_uid=True, timeout=_SECONDS)
        client.set_http_retry_params(retry=False)
        object.__setattr__(self, "_client", client)

    def store(self, items: Sequence[Item]) -> Iterator[Outcome]:
        """Store files, some at a time."""
        batch: list[Item] = []
        size = 0
        for item in items:
            size += item.path.stat().st_size
            batch.append(item)
            if len(batch) == _BATCH_FILES or size >= _BATCH_BYTES:
                yield from self._post(batch)
                batch, size = [], 0
        if batch:
            yield from self._post(batch)

    def _post(self, batch: Sequence[Item]) -> list[Outcome]:
        try:
            answer = self._client.store_instances([dcmread(item.path) for item in batch])
        except requests.exceptions.SSLError:
            why, passing = "the server's certificate is not trusted: give its CA with --ca", False
        except requests.exceptions.HTTPError as error:
            response = error.response
            told = _failures(response)
            if told is not None:
                return [_outcome(item, told) for item in batch]
            status = response.status_code if response is not None else 0
            why, passing = f"the server answers {status}", status in _LATER
        except (requests.exceptions.RequestException, OSError) as error:
            why, passing = f"the server cannot be reached ({type(error).__name__})", True
        else:
            return [_outcome(item, _failed(answer)) for item in batch]
        return [Outcome(item, why, passing) for item in batch]

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # a proxy or a CA of the environment is nobody's decision
        session.verify = str(self.ca) if self.ca is not None else True
        if self.credentials.token:
            session.headers["Authorization"] = f"Bearer {self.credentials.token}"
        elif self.credentials:
            # bytes: the library would encode text as Latin-1
            session.auth = HTTPBasicAuth(self.credentials.user.encode(), self.credentials.password.encode())
        return session


def _failed(answer: Dataset) -> dict[str, int]:
    """Reasons by identifier (PS3.18 section I.2)."""
    return {
        str(item.get("ReferencedSOPInstanceUID", "")): int(item.get("FailureReason", 0) or 0)
        for item in answer.get("FailedSOPSequence", None) or ()
    }


def _failures(response: requests.Response | None) -> dict[str, int] | None:
    """What an answer of failure says of single files, None where it says nothing."""
    if response is None or "json" not in response.headers.get("Content-Type", ""):
        return None
    try:
        return _failed(Dataset.from_json(response.json())) or None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _outcome(item: Item, failed: dict[str, int]) -> Outcome:
    if item.uid not in failed:
        return Outcome(item)
    reason = failed[item.uid]
    return Outcome(item, f"the server says no: {_REASONS.get(reason, 'reason')} ({reason:#06x})")
