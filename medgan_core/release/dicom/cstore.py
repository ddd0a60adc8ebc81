"""Storing to a classic PACS: C-STORE over an association (PS3.4 annex B)."""

import logging
import re
import socket
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association

from medgan_core.errors import InputError
from medgan_core.release.dicom.delivery import Item, Outcome

_TARGET = re.compile(r"(?P<title>[!-\[\]-~]{1,16})@(?P<host>[^@:]+|\[[0-9a-fA-F:]+\]):(?P<port>[0-9]{1,5})")
_SECONDS = 30
_REASONS = {0x0122: "its SOP class is not supported", 0xA700: "out of resources", 0xA900: "it does not match"}

logging.getLogger("pynetdicom").propagate = False  # it logs identifiers


@dataclass(frozen=True)
class ClassicArchive:
    """A PACS with the AE title `called` at `host`:`port`; `calling` is our own title, which it must know."""

    called: str
    host: str
    port: int
    calling: str = "MEDGAN"

    @classmethod
    def of(cls, target: str, calling: str = "MEDGAN") -> "ClassicArchive":
        """Read AET@HOST:PORT. Raises InputError."""
        match = _TARGET.fullmatch(target)
        if match is None or not 0 < int(match["port"]) < 2**16:
            raise InputError(f"--to {target}: expected a DICOMweb address, or AET@HOST:PORT")
        if not re.fullmatch(r"[!-\[\]-~]{1,16}", calling):
            raise InputError(f"--aet {calling!r}: expected 1 to 16 characters without spaces")
        return cls(match["title"], match["host"].strip("[]"), int(match["port"]), calling)

    def store(self, items: Sequence[Item]) -> Iterator[Outcome]:
        """Store files, one after the other, over one association."""
        association = self._associate({item.sop_class for item in items})
        try:
            for number, item in enumerate(items):
                if not association.is_established:
                    why = "the PACS cannot be reached, or does not know this AE title"
                    yield from (Outcome(left, why, passing=True) for left in items[number:])
                    return
                yield _store(association, item)
        finally:
            if association.is_established:
                association.release()

    def _associate(self, classes: set[str]) -> Association:
        entity = AE(ae_title=self.calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = (
            _SECONDS
        )
        for name in sorted(classes):
            entity.add_requested_context(name, ExplicitVRLittleEndian)
        return entity.associate(
            self.host, self.port, ae_title=self.called, evt_handlers=[(evt.EVT_CONN_OPEN, _at_once)]
        )


def _store(association: Association, item: Item) -> Outcome:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status = association.send_c_store(dcmread(item.path))
    except ValueError:  # no presentation context was accepted for it
        return Outcome(item, "the PACS does not take this SOP class")
    except RuntimeError:
        return Outcome(item, "the association was lost", passing=True)
    if "Status" not in status:
        return Outcome(item, "the PACS did not answer in time", passing=True)
    code = int(status.Status)
    if code == 0 or code >> 12 == 0xB:  # a warning: stored
        return Outcome(item)
    reason = _REASONS.get(code & 0xFF00 if code >> 12 in (0xA, 0xC) else code, "it says no")
    return Outcome(item, f"{reason} ({code:#06x})", passing=code >> 8 == 0xA7)


def _at_once(event: Any) -> None:
    """Small messages that wait for each other: without this a file takes 0.1 s."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
