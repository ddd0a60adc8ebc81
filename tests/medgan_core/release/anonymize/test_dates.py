from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.release.anonymize.dates import Shift
from medgan_core.release.anonymize.identifiers import PseudonymKey

KEY = PseudonymKey(bytes(range(32)))
moments = st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31))


def moved(shift: Shift, moment: datetime) -> datetime:
    day, time = shift.date_time(f"{moment:%Y%m%d}", f"{moment:%H%M%S}")
    return datetime.strptime(day + time, "%Y%m%d%H%M%S")


@given(st.text(max_size=8), moments, moments)
def test_intervals_of_a_patient_stay(patient: str, one: datetime, two: datetime) -> None:
    shift = Shift.of(KEY, "", patient)
    one, two = one.replace(microsecond=0), two.replace(microsecond=0)
    assert moved(shift, two) - moved(shift, one) == two - one
    assert moved(shift, one) - one >= timedelta(days=36_525)
    assert moved(shift, one).year < 2301


def test_patients_issuers_and_keys_have_distances_of_their_own() -> None:
    other = PseudonymKey(b"x" * 32)
    shifts = {Shift.of(k, i, p).seconds for k in (KEY, other) for i in ("", "A") for p in ("1", "2")}
    assert len(shifts) == 8
    assert Shift.of(KEY, "1", "2") != Shift.of(KEY, "12", "")


@given(moments)
def test_a_stamp_moves_as_its_date_and_time_do(moment: datetime) -> None:
    shift = Shift.of(KEY, "", "1")
    assert shift.stamp(f"{moment:%Y%m%d%H%M%S}.123456+0100") == "".join(
        shift.date_time(f"{moment:%Y%m%d}", f"{moment:%H%M%S}")
    )


@pytest.mark.parametrize("value", ["", "Smith", "20010230", "2001", "19990101Smith", "00000000"])
def test_what_is_no_date_goes(value: str) -> None:
    shift = Shift.of(KEY, "", "1")
    assert shift.date_time(value, "")[0] == ""
    assert shift.stamp(value) == ""


@pytest.mark.parametrize("value", ["Smith", "256060", "10:61", "1", "101112.Smith"])
def test_what_is_no_time_goes(value: str) -> None:
    assert Shift.of(KEY, "", "1").date_time("20010203", value)[1] == ""


@pytest.mark.parametrize("value", ["1999.12.31", "19991231"])
def test_old_forms_of_dates_are_read(value: str) -> None:
    shift = Shift(36_525 * 86_400)
    assert shift.date_time(value, "10:11:12") == (
        f"{date(1999, 12, 31) + timedelta(36_525):%Y%m%d}",
        "101112",
    )


def test_a_time_alone_moves_around_the_clock() -> None:
    assert Shift(36_525 * 86_400 + 3600).date_time("", "2330") == ("", "003000")
