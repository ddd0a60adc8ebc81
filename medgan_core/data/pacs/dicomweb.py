"""A DICOMweb server: QIDO-RS to ask, WADO-RS to fetch, a series at a time (PS3.18)."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client.web import DICOMwebClient, _Transaction
from pydicom import Dataset
from requests.auth import HTTPBasicAuth

from medgan_core.data.pacs.cohort import text_of
from medgan_core.data.pacs.credentials import NOBODY, Credentials
from medgan_core.data.pacs.source import Receive
from medgan_core.errors import ConfigError, InputError, SourceError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
_STUDY = ("ModalitiesInStudy", "StudyDescription")
_SERIES = ("BodyPartExamined", "SeriesDescription")
_Page = Callable[[int, int], list[dict[str, Any]]]
_OBJECT = "SOPInstanceUID"
_PAGE = 500
_GARBLED = (ValueError, KeyError, TypeError, AttributeError)
_STATUS = {
    401: "it does not accept the credentials: mend the file that source.credentials names",
    403: "it does not let these credentials read: ask its administrator for QIDO-RS and WADO-RS",
    404: "nothing is there: mind source.url, which ends in its DICOMweb root",
    429: "it is asked too often: set source.rate",
}
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}


@dataclass(frozen=True)
class DicomWeb:
    """A server at `url`, such as "https://pacs.example.org/dicom-web".

    `ca` is the file of a certificate authority, None for the system's; `timeout` in seconds, for a connection
    and for each read. Credentials go over TLS, or to this machine, alone.
    """

    url: str
    credentials: Credentials = NOBODY
    ca: Path | None = None
    timeout: float = 60.0
    _local: threading.local = field(default_factory=threading.local, repr=False, compare=False)
    _sessions: list[requests.Session] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigError("source.url", self.url, "an address such as https://pacs.example.org/dicom-web")
        if self.credentials and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ConfigError("source.url", self.url, "https: credentials would be sent in the clear")
        if self.ca is not None and not self.ca.is_file():
            raise InputError(f"ca {self.ca.name}: no such file; put the server's CA certificate there")

    def studies(self, keys: Mapping[str, str]) -> list[Dataset]:
        """QIDO-RS for studies."""

        def page(limit: int, offset: int) -> list[dict[str, Any]]:
            return self._client.search_for_studies(
                search_filters=dict(keys), fields=_STUDY, limit=limit, offset=offset
            )

        return self._pages("StudyInstanceUID", page, whole=True)

    def series(self, study: str) -> list[Dataset]:
        """QIDO-RS for the series of a study."""

        def page(limit: int, offset: int) -> list[dict[str, Any]]:
            return self._client.search_for_series(study, fields=_SERIES, limit=limit, offset=offset)

        return self._pages("SeriesInstanceUID", page)

    def objects(self, study: str, series: str) -> frozenset[str]:
        """QIDO-RS for the objects of a series."""

        def page(limit: int, offset: int) -> list[dict[str, Any]]:
            return self._client.search_for_instances(study, series, limit=limit, offset=offset)

        return frozenset(text_of(told, _OBJECT) for told in self._pages(_OBJECT, page))

    def fetch(self, study: str, series: str, receive: Receive) -> None:
        """WADO-RS for a series, in the transfer syntaxes that it is stored in."""
        with self._told():
            parts = self._client.parts(study, series)
        while True:
            with self._told():
                raw = next(parts, None)
            if raw is None:
                return
            receive(raw)

    def close(self) -> None:
        """Close all connections."""
        for session in self._sessions:
            session.close()

    def _pages(self, uid: str, page: _Page, *, whole: bool = False) -> list[Dataset]:
        """All answers to a question, each UID once, however many come at a time."""
        found: dict[str, Dataset] = {}
        while True:
            with self._told(whole=whole):
                answers = [Dataset.from_json(told) for told in page(_PAGE, len(found))]
            fresh = {text_of(told, uid): told for told in answers if text_of(told, uid) not in found}
            found |= fresh
            if not fresh:
                return list(found.values())

    @property
    def _client(self) -> "_Client":
        """One for each thread: sessions are not made to be shared."""
        if not hasattr(self._local, "client"):
            self._local.client = _Client(self.url.rstrip("/"), self._session(), timeout=self.timeout)
        client: _Client = self._local.client
        return client

    def _session(self) -> requests.Session:
        session = requests.Session()
        self._sessions.append(session)
        session.trust_env = False  # a proxy or a CA of the environment is nobody's decision
        session.verify = str(self.ca) if self.ca is not None else True
        if self.credentials.token:
            session.headers["Authorization"] = f"Bearer {self.credentials.token}"
        elif self.credentials:
            user, password = self.credentials.user, self.credentials.password
            session.auth = HTTPBasicAuth(user.encode(), password.encode())
        return session

    @contextmanager
    def _told(self, *, whole: bool = False) -> Iterator[None]:
        """Turn what goes wrong into a line for a person; the library's own errors hold addresses with UIDs.

        A study or series that is gone, as opposed to the `whole` server, does not end a pull.
        """
        try:
            yield
        except requests.exceptions.SSLError:
            raise self._error("its certificate is not trusted: put its CA in source.ca") from None
        except requests.exceptions.Timeout:
            raise self._error(f"no answer within {self.timeout:g} s: see whether it is up", True) from None
        except requests.exceptions.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            later = status >= 500 or status in _LATER or (status in _GONE and not whole)
            raise self._error(_STATUS.get(status, f"it answers {status}: see its log"), later) from None
        except (requests.exceptions.JSONDecodeError, *_GARBLED):
            raise self._error("its answer is no DICOMweb: see whether source.url is complete") from None
        except requests.exceptions.RequestException:
            raise self._error(
                "it cannot be reached: mind source.url, firewall, and whether it is up", True
            ) from None

    def _error(self, why: str, passing: bool = False) -> SourceError:
        return SourceError(f"DICOMweb server {urlsplit(self.url).hostname}: {why}", passing=passing)


class _Client(DICOMwebClient):
    """The library's client, which hands the parts of an answer on as they came.

    Its own methods parse each part and end a series at the first that they cannot read.
    """

    def __init__(self, url: str, session: requests.Session, timeout: float) -> None:
        super().__init__(url, session=session, permissive_uid=True, timeout=timeout)
        self.set_http_retry_params(retry=False)

    def parts(self, study: str, series: str) -> Iterator[bytes]:
        """The objects of a series."""
        url = self._get_series_url(_Transaction.RETRIEVE, study, series)
        response = self._http_get(url, headers={"Accept": _AS_STORED}, stream=True)
        if response.headers.get("Content-Type", "").startswith("application/dicom"):
            return iter([response.content])
        return (bytes(part) for part in self._decode_multipart_message(response, stream=True))
