"""Every value of a file that may say who somebody is: of any element, at any depth, and around the elements.

What is not searched for has its reason: numbers, words of the standard itself, and values so short that they
stand in any file.
"""

import io
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

import pydicom
from pydicom import DataElement, Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.charset import python_encoding

from medgan_core.release.anonymize.codes import public_code
from medgan_core.release.leaks.vocabulary import generic_name, public_word, too_common

_RUN = re.compile(rb"[\x20-\x7e\x80-\xff]{6,}")
_TEXT = frozenset({"AE", "LO", "SH", "LT", "ST", "UC", "UR", "UT", "CS"})
_BYTES = frozenset({"OB", "OW", "OB or OW", "UN", "OD", "OF", "OL", "OV"})
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_LONGEST = 200
_LARGEST = 1 << 20


class Kind(StrEnum):
    """What a value is."""

    NAME = "name"
    IDENTIFIER = "identifier or text"
    DATE = "date"
    TIME = "time"
    UID = "UID"
    PRIVATE = "private or unknown element"
    FILE_NAME = "file name"
    META = "file meta or preamble"


@dataclass(frozen=True)
class Value:
    """A value and what it is; `charset` is Python's name of the encoding of its file."""

    kind: Kind
    text: str
    charset: str = "latin-1"


def values_of(name: str, content: bytes) -> Iterator[Value]:
    """The values of a file, DICOM or not, its name below the folder included."""
    yield from _of_name(name)
    dataset = parsed(content)
    if dataset is not None:
        yield from values_of_dataset(dataset)


def parsed(content: bytes) -> Dataset | None:
    """A DICOM file with or without preamble; None where it is none, or too damaged to be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(content), force=content[128:132] != b"DICM")
            return (
                dataset
                if len(dataset) and (content[128:132] == b"DICM" or "SOPClassUID" in dataset)
                else None
            )
    except Exception:  # damage shows as many kinds of errors
        return None


def values_of_dataset(dataset: Dataset) -> Iterator[Value]:
    """The values of a data set with its file meta and preamble."""
    for run in _runs(getattr(dataset, "preamble", None) or b""):
        yield Value(Kind.META, run)
    for element in getattr(dataset, "file_meta", Dataset()):
        for value in _of_element(element, "latin-1"):
            yield Value(value.kind if value.kind == Kind.UID else Kind.META, value.text)
    yield from _walk(dataset, _charset(dataset))


def _walk(dataset: Dataset, charset: str) -> Iterator[Value]:
    code = (0x00080100,) if public_code(dataset) is not None else ()
    for tag in list(dataset.keys()):
        if int(tag) in (*_PIXELS, *code):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                element = dataset[tag]
        except Exception:  # what pydicom cannot convert is searched for as it lies there
            raw = getattr(dataset.get_item(tag), "value", None)
            yield from (Value(Kind.PRIVATE, run) for run in _runs(raw if isinstance(raw, bytes) else b""))
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _walk(item, charset)
        else:
            yield from _of_element(element, charset)


def _of_element(element: DataElement, charset: str) -> Iterator[Value]:
    values = list(element.value) if element.VM > 1 else [element.value]
    for value in values:
        if value is None or value == "":
            continue
        if element.tag.is_private or isinstance(value, bytes):
            kind = Kind.PRIVATE if element.tag.is_private or element.VR == "UN" else Kind.IDENTIFIER
            yield from (Value(kind, text, charset) for text in _private(value))
        elif element.VR == "PN":
            yield from (Value(Kind.NAME, text, charset) for text in _name_parts(str(value)))
        elif element.VR in ("DA", "DT"):
            yield from _dates(str(value))
        elif element.VR == "TM":
            yield Value(Kind.TIME, str(value).strip())
        elif element.VR == "UI":
            yield Value(Kind.UID, str(value))
        elif element.keyword == "ReferencedFileID":
            yield from _of_name(str(value))
        elif element.VR in _TEXT:
            yield from (Value(Kind.IDENTIFIER, text, charset) for text in _lines(str(value)))


def _private(value: Any) -> Iterator[str]:
    if isinstance(value, bytes):
        for run in _runs(value):
            yield from run.split("\\")
    elif isinstance(value, int | float):
        return
    else:
        yield from _lines(str(value))


def _name_parts(name: str) -> Iterator[str]:
    for group in name.split("="):
        parts = [part.strip() for part in group.split("^") if part.strip()]
        words = [word for part in parts for word in re.split(r"[\s,;]+", part) if word]
        yield from dict.fromkeys([group.strip("^ "), " ".join(parts), ", ".join(parts[:2]), *parts, *words])
        yield " ".join(reversed(parts[:2]))


def _dates(value: str) -> Iterator[Value]:
    found = re.match(r"(\d{4})\.?(\d{2})\.?(\d{2})(\d{6}\.\d{2,6})?", value.strip())
    if not found:
        yield from (Value(Kind.DATE, text) for text in [value.strip()])
        return
    year, month, day, clock = found.groups()
    for text in (
        year + month + day,
        f"{year}-{month}-{day}",
        f"{year}.{month}.{day}",
        f"{year}/{month}/{day}",
    ):
        yield Value(Kind.DATE, text)
    for text in (f"{day}.{month}.{year}", f"{day}/{month}/{year}", f"{month}/{day}/{year}"):
        yield Value(Kind.DATE, text)
    if clock:
        yield Value(Kind.TIME, clock)


def _lines(text: str) -> Iterator[str]:
    """Whole lines, and of them the words that hold several digits, such as numbers of patients."""
    for line in text.splitlines():
        yield line.strip()[:_LONGEST]
        if " " in line.strip():
            yield from (word.strip(".,;:()") for word in line.split() if sum(c.isdigit() for c in word) >= 4)


def _of_name(name: str) -> Iterator[Value]:
    for part in PurePosixPath(name).parts:
        stem = PurePosixPath(part).stem
        for text in dict.fromkeys([part, stem, *re.split(r"[\s_,;^=-]+", stem)]):
            if not generic_name(text):
                yield Value(Kind.FILE_NAME, text)


def _runs(raw: bytes) -> list[str]:
    """What reads as text in bytes, in lines of at most 200 characters."""
    found = (run.strip() for run in _RUN.findall(raw[:_LARGEST]))
    return [run.decode("latin-1")[:_LONGEST] for run in found if len(set(run)) > 3 and _wordy(run)]


def _wordy(run: bytes) -> bool:
    plain = sum(48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122 or c == 32 for c in run)
    return plain >= 0.7 * len(run)


def _charset(dataset: Dataset) -> str:
    said = dataset.get("SpecificCharacterSet") or ""
    last = said if isinstance(said, str) else str(said[-1]) if len(said) else ""
    return python_encoding.get(last, "latin-1")


def sorted_out(values: Iterable[Value]) -> tuple[dict[Value, None], dict[Value, None]]:
    """Distinct values to search for, and those that stand in any file. The standard's UIDs are in neither."""
    wanted: dict[Value, None] = {}
    common: dict[Value, None] = {}
    for value in values:
        text = value.text.strip(" \0")
        if not text or (value.kind == Kind.UID and text in UID_dictionary):
            continue
        coarse = value.kind == Kind.TIME and "." not in text
        dull = coarse or too_common(text, numbers_too=value.kind != Kind.DATE) or public_word(text)
        (common if dull else wanted)[Value(value.kind, text, value.charset)] = None
    return wanted, common
