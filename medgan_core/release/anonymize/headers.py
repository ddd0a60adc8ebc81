"""The walk through a header: a new data set is made of what the rules allow, at every depth.

Nothing is taken out of the old data set; what no rule puts into the new one is not there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydicom import DataElement, Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import DSfloat

from medgan_core.release.anonymize.allowed import TERMS, TIMELINE
from medgan_core.release.anonymize.codes import public_code
from medgan_core.release.anonymize.dates import Shift
from medgan_core.release.anonymize.identifiers import PseudonymKey
from medgan_core.release.anonymize.rules import Action, action_of

REPLACED = "REMOVED"
_OLDEST = 89  # HIPAA, 45 CFR 164.514(b)(2)(i)(C): ages over 89 are identifiers
_DEEPEST = 8
_DATES = {pair[0]: pair[1] for pair in TIMELINE}
_WHOLE, _REAL, _POINTER = ("IS", "US", "UL", "SS", "SL", "US or SS"), ("DS", "FD", "FL"), ("AT",)
_TEXT = ("LO", "SH", "LT", "ST", "UT", "UC", "CS", "AE")
_TYPE_2 = (
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"),
    *("ReferringPhysicianName", "StudyID", "SeriesNumber", "InstanceNumber", "Manufacturer"),
)


@dataclass(frozen=True)
class Patient:
    """Who a patient is in the new files: the pseudonym, how far dates move, and the key for UIDs."""

    pseudonym: str
    shift: Shift
    key: PseudonymKey

    @classmethod
    def of(cls, key: PseudonymKey, issuer: str, patient: str) -> "Patient":
        """The patient of this issuer and PatientID, under a key."""
        return cls(key.pseudonym(issuer, patient), Shift.of(key, issuer, patient), key)


def clean_header(dataset: Dataset, patient: Patient) -> Dataset:
    """A new header with what the rules allow of an image's, without pixels. Elements of type 2 are there."""
    made = _walk(dataset, patient, 0)
    made.PatientName = made.PatientID = patient.pseudonym
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _TYPE_2:
        if keyword not in made:
            setattr(made, keyword, None)
    return made


def new_uid(uid: str, key: PseudonymKey) -> str:
    """A UID of the standard itself as it is, any other one remapped; "" for none."""
    uid = uid.strip(" \0")
    return uid if not uid or uid in UID_dictionary else key.uid(uid)


def _walk(dataset: Dataset, patient: Patient, depth: int) -> Dataset:
    made = Dataset()
    for tag in list(dataset.keys()):
        action = action_of(Tag(tag))
        if action in (Action.DROP, Action.DATE, Action.PIXELS):
            continue
        try:
            element = dataset[tag]
            value = _value(element, action, patient, depth)
        except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError, OverflowError):
            continue  # what cannot be read cannot be judged
        if value is not None:
            _put(made, element.tag, value)
    _move_dates(dataset, made, patient.shift)
    _copy_table(dataset, made)
    return made


def _put(made: Dataset, tag: BaseTag, value: Any) -> None:
    vr = dictionary_VR(tag)
    made[tag] = DataElement(
        tag, "US" if vr == "US or SS" and _unsigned(value) else vr.split(" or ")[-1], value
    )


def _unsigned(value: Any) -> bool:
    return all(number >= 0 for number in (value if isinstance(value, list) else [value]) if number != "")


def _value(element: DataElement, action: Action, patient: Patient, depth: int) -> Any:
    """The new value of an element; None where it goes."""
    if element.VR not in dictionary_VR(element.tag):
        return None
    values = _values(element)
    match action:
        case Action.NUMBER:
            return _numbers(element.VR, values)
        case Action.TERM:
            return _terms(TERMS[element.keyword], values)
        case Action.EMPTY:
            return ""
        case Action.REPLACE:
            return _replaced(element.VR, values, patient)
        case Action.UID:
            return [new_uid(str(value), patient.key) for value in values] if element.VR == "UI" else None
        case Action.STAMP:
            return [patient.shift.stamp(str(value)) for value in values]
        case Action.AGE:
            return _age(str(values[0])) if values else None
        case Action.PSEUDONYM:
            return patient.pseudonym
        case Action.CODE:
            return _codes(element)
        case Action.ITEMS:
            return _items(element, patient, depth)
    return None


def _values(element: DataElement) -> list[Any]:
    if element.VR == "SQ" or element.value is None or element.value == "":
        return []
    return list(element.value) if element.VM > 1 else [element.value]


def _numbers(vr: str, values: Iterable[Any]) -> Any:
    if vr in _WHOLE:
        return [int(value) for value in values]
    if vr in _REAL:
        return [DSfloat(float(value), auto_format=True) if vr == "DS" else float(value) for value in values]
    # a pointer to a private element would name its block
    return [Tag(value) for value in values if not Tag(value).is_private] if vr in _POINTER else None


def _terms(allowed: frozenset[str], values: Iterable[Any]) -> list[str] | None:
    """The values that are on the list. A value of several keeps its place only if all before it are on it."""
    kept: list[str] = []
    for value in values:
        if str(value).strip() not in allowed:
            break
        kept.append(str(value).strip())
    return kept or None


def _replaced(vr: str, values: list[Any], patient: Patient) -> Any:
    if vr == "UI":
        return [new_uid(str(value), patient.key) for value in values]
    if vr == "DT":
        return [patient.shift.stamp(str(value)) for value in values]
    if vr in ("PN", *_TEXT):
        return REPLACED if values else ""
    return None


def _age(value: str) -> str | None:
    number, unit = value[:-1], value[-1:]
    if len(value) != 4 or not number.isdecimal() or unit not in "DWMY":
        return None
    return f"{_OLDEST + 1:03d}Y" if unit == "Y" and int(number) > _OLDEST else f"{int(number):03d}{unit}"


def _codes(element: DataElement) -> Sequence | None:
    items = [public_code(item) for item in element.value or ()]
    return Sequence([item for item in items if item is not None]) if items and None not in items else None


def _items(element: DataElement, patient: Patient, depth: int) -> Sequence | None:
    if element.VR != "SQ" or depth >= _DEEPEST:
        return None
    return Sequence([_walk(item, patient, depth + 1) for item in element.value or ()])


def _move_dates(dataset: Dataset, made: Dataset, shift: Shift) -> None:
    for date, time in _DATES.items():
        moved = shift.date_time(_text(dataset, date), _text(dataset, time))
        for keyword, value in zip((date, time), moved, strict=True):
            if keyword in dataset:
                setattr(made, keyword, value)


def _text(dataset: Dataset, keyword: str) -> str:
    """A value as text, "" where it is missing, several or unreadable."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return ""
    try:
        return str(dataset[tag].value or "")
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError):
        return ""


def _copy_table(dataset: Dataset, made: Dataset) -> None:
    """The entries of a look-up table, as many as its descriptor says: no more bytes than numbers."""
    if "LUTData" not in dataset or "LUTDescriptor" not in made:
        return
    entries, _, bits = (int(number) for number in made.LUTDescriptor)
    data = dataset["LUTData"].value
    if isinstance(data, bytes):
        data = [int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data) - 1, 2)]
    made.add_new(0x00283006, "US", [min(int(entry), 2**bits - 1) for entry in data][: entries or 65_536])
