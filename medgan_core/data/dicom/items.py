"""The files of one reading, and what is known of each so far."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medgan_core.data.dicom.header import Header
from medgan_core.data.dicom.reasons import EXPECTED, REFUSED, Refusal
from medgan_core.data.dicom.report_card import Outcome
from medgan_core.data.dicom.sources import Source
from medgan_core.data.dicom.work import Answer
from medgan_core.errors import DataError


@dataclass(eq=False)
class Item:
    """One file. `early` are its frames where bytes were decoded already; `source` is dropped then."""

    name: str
    key: str
    source: Source | None
    header: Header | None = None
    patient: str = ""
    named: bool = True
    label: str = ""
    digest: str = ""
    early: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    refusal: Refusal | None = None
    detail: str = ""
    repairs: set[str] = field(default_factory=set)

    def refuse(self, reason: Refusal, detail: str = "") -> None:
        """Take it out; the first reason stays."""
        if self.refusal is None:
            self.refusal, self.detail = reason, detail
        self.early = {}

    def hear(self, answer: Answer) -> bool:
        """Note what an answer says in general, and whether it came about."""
        if answer.refusal is not None:
            self.refuse(answer.refusal, answer.detail)
        self.repairs |= set(answer.repairs)
        return answer.refusal is None

    def outcome(self) -> Outcome:
        """For the report card."""
        return Outcome(self.key, self.refusal, self.detail, frozenset(self.repairs))


def by_patient(items: Iterable[tuple[int, Item]]) -> dict[str, dict[int, Header]]:
    """The headers of all files that are still in, by patient."""
    found: dict[str, dict[int, Header]] = {}
    for index, item in items:
        if item.refusal is None and item.header is not None:
            found.setdefault(item.patient, {})[index] = item.header
    return found


def copies(patients: Mapping[str, Mapping[int, Header]]) -> Iterator[list[int]]:
    """Files of one patient with one SOPInstanceUID, where there are several."""
    for headers in patients.values():
        groups: dict[str, list[int]] = {}
        for index, header in headers.items():
            if header.uid:
                groups.setdefault(header.uid, []).append(index)
        yield from (group for group in groups.values() if len(group) > 1)


def check_strictly(items: Iterable[Item]) -> None:
    """Raise DataError for the first file that is refused for a defect of its own."""
    for item in items:
        if item.refusal is not None and item.refusal not in EXPECTED:
            why, detail = REFUSED[item.refusal][0], f" ({item.detail})" if item.detail else ""
            raise DataError(f"{item.name} is refused ({item.refusal}): {why}{detail}")
