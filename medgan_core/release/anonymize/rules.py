"""What happens to each attribute of a header, in one function; `explain` says the same in words.

PS3.15 Basic Profile with Retain Longitudinal Temporal Information with Modified Dates, Retain Patient
Characteristics and Clean Graphics. The first rule that fits decides, and the last one drops the rest.
"""

from dataclasses import dataclass
from enum import StrEnum

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.tag import BaseTag

from medgan_core.release.anonymize.allowed import (
    CHARACTERISTICS,
    CODES,
    NUMBERS,
    SEQUENCES,
    STAMPS,
    TERMS,
    TIMELINE,
)
from medgan_core.release.anonymize.table import EDITION, basic_profile

_PAIRED = frozenset(keyword for pair in TIMELINE for keyword in pair)
_PIXELS = frozenset({"PixelData", "LUTData"})
_TABLE = f"PS3.15 E.1-1 ({EDITION})"
_OF_THE_TABLE = {"X": "drop", "Z": "empty", "D": "replace", "U": "uid", "R": "items"}


class Action(StrEnum):
    """What is done to an element."""

    DROP = "drop"
    EMPTY = "empty"
    REPLACE = "replace"
    PSEUDONYM = "pseudonym"
    UID = "uid"
    DATE = "date"
    STAMP = "stamp"
    NUMBER = "number"
    TERM = "term"
    AGE = "age"
    CODE = "code"
    ITEMS = "items"
    PIXELS = "pixels"


@dataclass(frozen=True)
class Rule:
    """One line of the rules: which attributes, what is done, and by which part of the standard."""

    attributes: str
    done: str
    source: str


def action_of(tag: BaseTag) -> Action:
    """What is done to an attribute, at any depth. What no rule allows is dropped."""
    group = tag.group
    if (
        tag.is_private
        or tag.element == 0
        or group in range(0x5000, 0x50FF + 1)
        or not dictionary_has_tag(tag)
    ):
        return Action.DROP
    keyword, vr = keyword_for_tag(tag), dictionary_VR(tag)
    if group in range(0x6000, 0x60FF + 1):
        return Action.DROP
    if keyword in ("PatientName", "PatientID"):
        return Action.PSEUDONYM
    for names, action in _ALLOWED_BEFORE:
        if keyword in names:
            return action
    letter = basic_profile().get(int(tag))
    if letter:
        return Action.DROP if letter in "ZD" and vr == "SQ" else Action(_OF_THE_TABLE[letter])
    for names, action in _ALLOWED_AFTER:
        if keyword in names:
            return action
    return {"UI": Action.UID, "PN": Action.REPLACE}.get(vr, Action.DROP)


_ALLOWED_BEFORE = (
    (frozenset({"PatientAge"}), Action.AGE),
    (CHARACTERISTICS & NUMBERS, Action.NUMBER),
    (CHARACTERISTICS & frozenset(TERMS), Action.TERM),
    (_PAIRED, Action.DATE),
    (STAMPS, Action.STAMP),
)
_ALLOWED_AFTER = (
    (NUMBERS, Action.NUMBER),
    (frozenset(TERMS), Action.TERM),
    (CODES, Action.CODE),
    (SEQUENCES, Action.ITEMS),
    (_PIXELS, Action.PIXELS),
)


def explain() -> tuple[Rule, ...]:
    """The rules in words, in the order in which they are tried."""
    return (*_of_hiding_places(), *_of_options(), *_of_the_table(), *_of_allowed(), *_of_the_rest())


def _of_hiding_places() -> tuple[Rule, ...]:
    return (
        Rule("preamble, file meta", "zeroed, written anew", "PS3.10 7.1"),
        Rule("private elements, unknown elements, VR UN, group lengths", "dropped", _TABLE),
        Rule("curves (50xx), overlays (60xx), bits above Bits Stored", "dropped", "Clean Graphics"),
        Rule("Patient's Name, Patient ID", "keyed pseudonym", _TABLE),
    )


def _of_options() -> tuple[Rule, ...]:
    return (
        Rule(
            f"{len(CHARACTERISTICS)}: sex, age, size, weight, smoking, pregnancy",
            "kept; ages above 89 years become 90",
            "Retain Patient Characteristics",
        ),
        Rule(
            f"{len(_PAIRED) + len(STAMPS)}: dates and times of study, series, acquisition, content",
            "moved 100 to 200 years ahead, one secret distance a patient",
            "Retain Longitudinal, Modified Dates",
        ),
    )


def _of_the_table() -> tuple[Rule, ...]:
    letters: list[str] = list(basic_profile().values())

    def rule(letter: str, what: str, done: str) -> Rule:
        return Rule(f"{letters.count(letter)} of the table with {what}", done, _TABLE)

    return (
        rule("X", "X", "dropped, with all in them"),
        rule("Z", "Z", "emptied; a sequence is dropped"),
        rule("D", "D", "replaced by a fixed word; else dropped"),
        rule("U", "U", "2.25 and HMAC-SHA256 of the UID"),
        rule("R", "X/Z/U*: sequences of references", "their items, by these rules"),
    )


def _of_allowed() -> tuple[Rule, ...]:
    numbers, terms = len(NUMBERS - CHARACTERISTICS), len(TERMS.keys() - CHARACTERISTICS)
    return (
        Rule(f"{numbers} numbers that show and measure an image", "kept, written anew", "allow-list"),
        Rule(f"{terms} terms of fixed lists, such as Modality", "kept where on their list", "allow-list"),
        Rule(
            f"{len(CODES)} sequences of codes", "kept where the code is the standard's", "allow-list, PS3.16"
        ),
        Rule(
            f"{len(SEQUENCES)} sequences of geometry, tables and frames",
            "their items, by these rules",
            "allow-list",
        ),
    )


def _of_the_rest() -> tuple[Rule, ...]:
    return (
        Rule(
            "pixels",
            "decoded, text blanked or refused, written uncompressed",
            "Clean Pixel Data where looked for",
        ),
        Rule("any other UID", "2.25 and HMAC-SHA256, but those of the standard itself", "fail closed"),
        Rule("any other person's name", "replaced by a fixed word", "fail closed"),
        Rule("everything else", "dropped", "fail closed"),
    )
