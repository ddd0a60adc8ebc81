"""Which images of a hospital a site asks for, declared once and checked on our side again.

What a server filters by is a hint: some return everything on a key that they do not index. So every rule is
applied to what a query told, as far as it told anything, and to the header of every object that came.
"""

import re
from collections.abc import Callable, Iterator
from datetime import date
from fnmatch import fnmatchcase
from typing import Any, Self

from pydantic import model_validator

from medgan_core.config import Names
from medgan_core.errors import ConfigError
from medgan_core.sections import Section

_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_Rule = tuple[str, str, Callable[[str], bool]]


class Cohort(Section):
    """What a site asks for; an empty rule admits all. Texts are compared without regard to case.

    `modalities` and `body_parts` as DICOM codes, such as "CT" and "CHEST"; `begin` and `end` are the first
    and the last study date, as YYYY-MM-DD; descriptions by patterns with * and ?, of which one has to fit;
    `sop_classes` as UIDs or as pydicom's keywords, such as "CTImageStorage".
    """

    modalities: Names = ()
    body_parts: Names = ()
    begin: str = ""
    end: str = ""
    study_descriptions: Names = ()
    series_descriptions: Names = ()
    sop_classes: Names = ()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        days = [_day(name, getattr(self, name)) for name in ("begin", "end")]
        if "" not in days and days[0] > days[1]:
            raise ConfigError("cohort.end", self.end, f"a day not before cohort.begin = {self.begin}")
        if self.sop_classes:
            self.class_uids()
        return self

    @property
    def rules(self) -> bool:
        """Whether there is any rule."""
        return self != Cohort()

    def refusal(self, header: Any) -> str | None:
        """Why an object is not of this cohort, None where it is: a word for it, without any value of it.

        `header`: the pydicom Dataset. A rule for an attribute that is missing or blank refuses.
        """
        return next((why for why, key, admits in self._rules() if not admits(text_of(header, key))), None)

    def contradicted(self, header: Any) -> str | None:
        """As `refusal`, of the answer to a query: what it does not tell is no reason."""
        return next(
            (
                why
                for why, key, admits in self._rules()
                if (told := text_of(header, key)) and not admits(told)
            ),
            None,
        )

    def queries(self) -> list[dict[str, str]]:
        """Keys of study-level queries whose answers together hold the cohort, and maybe more.

        Descriptions and body parts are not asked for: servers differ in case and in what they index.
        """
        days = [_day(name, getattr(self, name)) for name in ("begin", "end")]
        when = {"StudyDate": "-".join(days)} if any(days) else {}
        return [when | {"ModalitiesInStudy": modality} for modality in self.modalities] or [when]

    def class_uids(self) -> tuple[str, ...]:
        """The UIDs of `sop_classes`. ConfigError for a keyword that pydicom does not know."""
        return tuple(_class_uid(name) for name in self.sop_classes)

    def _rules(self) -> Iterator[_Rule]:
        first, last = _day("begin", self.begin), _day("end", self.end)
        if self.modalities:
            yield "modality", "Modality", _one_of(self.modalities)
        if self.body_parts:
            yield "body part", "BodyPartExamined", _one_of(self.body_parts)
        if first or last:
            yield "study date", "StudyDate", lambda told: _is_day(told) and first <= told <= (last or told)
        if self.study_descriptions:
            yield "study description", "StudyDescription", _like(self.study_descriptions)
        if self.series_descriptions:
            yield "series description", "SeriesDescription", _like(self.series_descriptions)
        if self.sop_classes:
            yield "SOP class", "SOPClassUID", _one_of(self.class_uids())


def text_of(header: Any, keyword: str) -> str:
    """An attribute as text, "" where it is missing; several values are joined by backslashes."""
    value = header.get(keyword)
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    return "\\".join(str(part).strip() for part in parts)


def fits(told: str, pattern: str) -> bool:
    """Whether a text fits a pattern with * and ?, without regard to case."""
    return fnmatchcase(told.casefold(), pattern.casefold())


def _one_of(wanted: Names) -> Callable[[str], bool]:
    names = {name.casefold() for name in wanted}
    return lambda told: told.casefold() in names


def _like(patterns: Names) -> Callable[[str], bool]:
    return lambda told: any(fits(told, pattern) for pattern in patterns)


def _is_day(told: str) -> bool:
    return len(told) == 8 and told.isascii() and told.isdigit()


def _day(name: str, told: str) -> str:
    """YYYY-MM-DD as DICOM's YYYYMMDD."""
    if not told:
        return ""
    try:
        return f"{date.fromisoformat(told):%Y%m%d}"
    except ValueError:
        raise ConfigError(f"cohort.{name}", told, 'a day such as "2024-12-31", or ""') from None


def _class_uid(name: str) -> str:
    if _UID.fullmatch(name):
        return name
    import pydicom.uid  # of the keywords alone: site.toml is read without it

    uid = getattr(pydicom.uid, name, None)
    if not isinstance(uid, pydicom.uid.UID):
        raise ConfigError("cohort.sop_classes", name, 'a UID, or a keyword such as "CTImageStorage"')
    return str(uid)
