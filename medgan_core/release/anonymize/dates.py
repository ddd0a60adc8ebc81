"""Dates that move: one secret distance for each patient, so that the intervals of a patient stay as they are.

They move 100 to 200 years ahead, as in MIMIC-III (Johnson et al. 2016, Scientific Data 3, 160035): no real
date lies there, so that nobody takes one for real, and none is by chance the real one of somebody else.
Times of day move too, in one step with their date, since scanners' logs know the second of an examination.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from medgan_core.release.anonymize.identifiers import PseudonymKey

_LEAST_DAYS, _DAYS = 36_525, 36_525
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.\d{1,6})?)?)?")
_STAMP = re.compile(r"(\d{8})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?(?:[+-]\d{4})?")


@dataclass(frozen=True)
class Shift:
    """How far the dates of one patient move: whole seconds, from 36,525 to 73,050 days."""

    seconds: int

    @classmethod
    def of(cls, key: PseudonymKey, issuer: str, patient: str) -> "Shift":
        """The distance of a patient under a key."""
        return cls(_LEAST_DAYS * 86_400 + key.number("dates", issuer, patient) % (_DAYS * 86_400))

    def date_time(self, date: str, time: str) -> tuple[str, str]:
        """A DA and the TM that belongs to it, moved together; "" for what is missing or no date or time.

        Without a time of its own the date is that of noon; a time without a date moves around the clock.
        Fractions of a second are dropped.
        """
        day, clock = _day(date), _clock(time)
        moved = (day or datetime(2000, 1, 1)) + (timedelta(hours=12) if clock is None else clock)
        moved += timedelta(seconds=self.seconds)
        return (
            f"{moved:%Y%m%d}" if day else "",
            f"{moved:%H%M%S}" if clock is not None else "",
        )

    def stamp(self, value: str) -> str:
        """A DT moved; "" for what is none. Fractions of a second and the offset from UTC are dropped."""
        found = _STAMP.fullmatch(value.strip())
        if not found:
            return ""
        date, time = self.date_time(found[1], found[2] or "")
        return date + time if date else ""


def _day(value: str) -> datetime | None:
    found = _DATE.fullmatch(value.strip())
    try:
        return datetime(int(found[1]), int(found[2]), int(found[3])) if found else None
    except ValueError:
        return None


def _clock(value: str) -> timedelta | None:
    found = _TIME.fullmatch(value.strip())
    if not found:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    # 60 is the leap second of PS3.5 6.2
    return (
        timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if hours < 24 and minutes < 60 and seconds <= 60
        else None
    )
