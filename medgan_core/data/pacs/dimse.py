"""A classic PACS: C-FIND to ask, C-GET to fetch, a series at a time (PS3.4 C.4, PS3.7).

C-GET sends the objects back over the association that asked for them, so nothing has to listen here.
"""

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context, build_role
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from medgan_core.data.pacs.cohort import Cohort, text_of
from medgan_core.data.pacs.source import Receive
from medgan_core.errors import ConfigError, InputError, SourceError

CLASSES: tuple[str, ...] = (
    CTImageStorage,
    EnhancedCTImageStorage,
    MRImageStorage,
    EnhancedMRImageStorage,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForPresentation,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
"""What is accepted where the cohort names no SOP classes. A PACS sends only what was agreed on."""
_OF_MODALITY: Mapping[str, tuple[str, ...]] = {
    "CT": (CTImageStorage, EnhancedCTImageStorage),
    "MR": (MRImageStorage, EnhancedMRImageStorage),
    "CR": (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation),
    "DX": (DigitalXRayImageStorageForPresentation, ComputedRadiographyImageStorage),
    "MG": (DigitalMammographyXRayImageStorageForPresentation, DigitalXRayImageStorageForPresentation),
    "US": (UltrasoundImageStorage, UltrasoundMultiFrameImageStorage),
}
_PLAIN: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_COMPRESSED = (
    JPEG2000Lossless,
    JPEG2000,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
    DeflatedExplicitVRLittleEndian,
)
_MOST_CONTEXTS = 128
_PENDING = (0xFF00, 0xFF01)
_CALLING, _CALLED, _BUSY = (1, 3), (1, 7), ((3, 1), (3, 2))


@dataclass(frozen=True)
class Dimse:
    """A PACS at host and port, whose AE title is `peer`; ours is `title`, which it has to know.

    With a `tls` context the association runs over TLS (PS3.15 B). `classes` are the SOP classes that may
    come, `timeout` is in seconds, for a connection and for each message.
    """

    host: str
    port: int
    peer: str
    title: str = "MEDGAN"
    classes: tuple[str, ...] = CLASSES
    tls: ssl.SSLContext | None = None
    timeout: float = 60.0

    def __post_init__(self) -> None:
        for name, title in (("source.peer_title", self.peer), ("source.title", self.title)):
            if not (
                0 < len(title) <= 16 and title.isascii() and title.isprintable() and title.strip() == title
            ):
                raise ConfigError(name, title, "an AE title: 1 to 16 characters")
        if not self.host or not 0 < self.port < 65536:
            raise ConfigError(
                "source.host", f"{self.host}:{self.port}", "a host, and in source.port its port"
            )

    def studies(self, keys: Mapping[str, str]) -> list[Dataset]:
        """C-FIND for studies."""
        wanted = dict.fromkeys(
            ("StudyInstanceUID", "StudyDate", "ModalitiesInStudy", "StudyDescription", "PatientID"), ""
        )
        return self._find("STUDY", wanted | dict(keys))

    def series(self, study: str) -> list[Dataset]:
        """C-FIND for the series of a study."""
        wanted = dict.fromkeys(("SeriesInstanceUID", "Modality", "BodyPartExamined", "SeriesDescription"), "")
        return self._find("SERIES", wanted | {"StudyInstanceUID": study})

    def objects(self, study: str, series: str) -> frozenset[str]:
        """C-FIND for the objects of a series."""
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
        return frozenset(text_of(told, "SOPInstanceUID") for told in self._find("IMAGE", keys))

    def fetch(self, study: str, series: str, receive: Receive) -> None:
        """C-GET of a series; each object in the transfer syntax that the PACS chose among those offered."""
        raised: list[Exception] = []

        def handle(event: evt.Event) -> int:
            try:
                if not raised:
                    receive(event.encoded_dataset())
            except Exception as error:
                raised.append(error)
            return 0xA700 if raised else 0x0000

        query = _identifier("SERIES", {"StudyInstanceUID": study, "SeriesInstanceUID": series})
        with self._associated(self._getting(), handle) as found:
            answers = []
            for answer in found.send_c_get(query, StudyRootQueryRetrieveInformationModelGet):
                answers.append(answer)
                if raised:
                    found.abort()
                    break
        if raised:
            raise raised[0]
        self._check(answers, "C-GET")

    def close(self) -> None:
        """Nothing: every association ends with its question."""

    def echo(self) -> None:
        """C-ECHO: whether the PACS talks to us at all."""
        with self._associated([build_context(Verification)]) as found:
            if found.send_c_echo().get("Status") != 0:
                raise self._error("it answers no C-ECHO: see its log")

    def _find(self, level: str, keys: Mapping[str, str]) -> list[Dataset]:
        query = _identifier(level, keys)
        with self._associated([build_context(StudyRootQueryRetrieveInformationModelFind)]) as found:
            answers = list(found.send_c_find(query, StudyRootQueryRetrieveInformationModelFind))
        self._check(answers, "C-FIND")
        return [told for status, told in answers if told is not None and status.get("Status") in _PENDING]

    def _check(self, answers: list[tuple[Dataset, Dataset | None]], what: str) -> None:
        """SourceError unless the last answer is a success; a PACS that sends nothing has let go of us."""
        last = answers[-1][0].get("Status") if answers else None
        if last is None:
            raise self._error(
                f"{what} broke off, or took longer than {self.timeout:g} s: see its log, and whether it "
                f"knows {self.title}",
                True,
            )
        if last in (0x0122, 0x0124, 0xA900):
            raise self._error(f"it does not allow {what} to {self.title}: have it allowed there")
        if last != 0:
            raise self._error(f"{what} ended with status {last:04X}: see its log", True)

    @contextmanager
    def _associated(
        self, contexts: list[PresentationContext], store: Callable[[evt.Event], int] | None = None
    ) -> Iterator[Association]:
        """An association, let go of at the end; `store` takes what C-GET sends."""
        entity = AE(ae_title=self.title)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = self.timeout
        entity.network_timeout = self.timeout
        connected: list[evt.Event] = []
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, _without_delay), (evt.EVT_CONN_OPEN, connected.append)]
        try:
            found = entity.associate(
                self.host,
                self.port,
                contexts,
                self.peer,
                max_pdu=0,
                ext_neg=[build_role(UID(name), scp_role=True) for name in self.classes] if store else None,
                tls_args=None if self.tls is None else (self.tls, self.host),
                evt_handlers=handlers + ([(evt.EVT_C_STORE, store)] if store else []),
            )
        except OSError:
            raise self._error(f"no machine is called {self.host}: mend source.host", True) from None
        if not found.is_established:
            raise self._refusal(found, bool(connected))
        try:
            yield found
        finally:
            if found.is_established:
                found.release()

    def _getting(self) -> list[PresentationContext]:
        """Contexts for C-GET: for each class one of plain syntaxes, and compressed ones as many as fit.

        A PACS chooses one syntax for a context, so each compressed one has a context of its own.
        """
        contexts = [build_context(StudyRootQueryRetrieveInformationModelGet)]
        contexts += [build_context(name, _PLAIN) for name in self.classes]
        pairs = [build_context(name, syntax) for syntax in _COMPRESSED for name in self.classes]
        return contexts + pairs[: _MOST_CONTEXTS - len(contexts)]

    def _refusal(self, found: Association, connected: bool) -> SourceError:
        """Why there is no association."""
        answer = found.acceptor.primitive
        code = (getattr(answer, "result_source", None), getattr(answer, "diagnostic", None))
        if found.is_rejected and code == _CALLING:
            return self._error(f"it does not know {self.title}: have this AE title and address entered there")
        if found.is_rejected and code == _CALLED:
            return self._error(f"it is not called {self.peer}: mend source.peer_title")
        if found.is_rejected:
            why = f"it refuses the association ({code[0]}, {code[1]}): see its log"
            return self._error(why, code in _BUSY)
        if connected:
            return self._error("it broke off before it agreed: mind source.tls, titles, and its log", True)
        return self._error(
            "it cannot be reached: mind source.host, port, firewall, and whether it is up", True
        )

    def _error(self, why: str, passing: bool = False) -> SourceError:
        return SourceError(f"PACS {self.host}:{self.port}: {why}", passing=passing)


def classes_of(cohort: Cohort, *, segmentations: bool) -> tuple[str, ...]:
    """The SOP classes to agree on for a cohort: fewer make an association faster."""
    named = cohort.class_uids()
    if not named and cohort.modalities and all(name in _OF_MODALITY for name in cohort.modalities):
        named = tuple(uid for name in cohort.modalities for uid in _OF_MODALITY[name])
    return tuple(dict.fromkeys((*(named or CLASSES), *((SegmentationStorage,) if segmentations else ()))))


def tls_context(ca: Path | None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS that verifies the PACS by `ca` (None: the system's), with a certificate of our own if it wants one.

    InputError for a file that is missing or none of these.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(str(certificate), str(key) if key is not None else None)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(path.name for path in (ca, certificate, key) if path is not None)
        why = error.strerror or type(error).__name__
        raise InputError(f"{names}: {why}; expected certificates and a key as PEM") from None
    return context


def _identifier(level: str, keys: Mapping[str, str]) -> Dataset:
    found = Dataset()
    found.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(found, name, value)
    return found


def _without_delay(event: evt.Event) -> None:
    """Nagle's algorithm and delayed acknowledgement together cost 40 ms a message."""
    found = event.assoc.dul.socket
    if found is not None and found.socket is not None:
        found.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
