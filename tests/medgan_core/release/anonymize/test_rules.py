import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.tag import Tag

from medgan_core.release.anonymize import allowed
from medgan_core.release.anonymize.rules import Action, action_of, explain
from medgan_core.release.anonymize.table import basic_profile

_NUMBERS = {"AT", "DS", "FD", "FL", "IS", "SL", "SS", "UL", "US", "US or SS"}


def tag(keyword: str) -> int:
    found = tag_for_keyword(keyword)
    assert found is not None, keyword
    return found


@pytest.mark.parametrize("keyword", sorted(allowed.NUMBERS))
def test_what_stays_as_a_number_is_one(keyword: str) -> None:
    assert dictionary_VR(tag(keyword)) in _NUMBERS


@pytest.mark.parametrize("keyword", sorted(allowed.TERMS))
def test_terms_are_short_words_of_attributes_of_the_standard(keyword: str) -> None:
    assert dictionary_VR(tag(keyword)) in {"CS", "LO"}
    assert all(len(term) <= 16 and term == term.upper() for term in allowed.TERMS[keyword])


def test_sequences_are_sequences_and_dates_are_dates() -> None:
    assert {dictionary_VR(tag(keyword)) for keyword in allowed.SEQUENCES | allowed.CODES} == {"SQ"}
    assert {dictionary_VR(tag(keyword)) for keyword in allowed.STAMPS} == {"DT"}
    assert {tuple(dictionary_VR(tag(k)) for k in pair) for pair in allowed.TIMELINE} == {("DA", "TM")}


def test_the_table_wins_over_the_allow_list() -> None:
    """But for the two options of the profile, which are about attributes of the table."""
    options = allowed.CHARACTERISTICS | allowed.STAMPS | {k for pair in allowed.TIMELINE for k in pair}
    kept = {Action.NUMBER, Action.TERM, Action.AGE, Action.DATE, Action.STAMP, Action.CODE}
    broken = [
        keyword
        for keyword in allowed.NUMBERS | set(allowed.TERMS) | allowed.SEQUENCES | allowed.CODES
        if keyword not in options and tag(keyword) in basic_profile() and action_of(Tag(tag(keyword))) in kept
    ]
    assert broken == []


def test_nothing_of_the_table_is_kept() -> None:
    options = allowed.CHARACTERISTICS | allowed.STAMPS | {k for pair in allowed.TIMELINE for k in pair}
    excused = {tag(keyword) for keyword in options}
    removing = {Action.DROP, Action.EMPTY, Action.REPLACE, Action.UID, Action.ITEMS, Action.PSEUDONYM}
    assert {action_of(Tag(t)) for t in basic_profile() if t not in excused} <= removing
    assert len(basic_profile()) > 600


@pytest.mark.parametrize(
    ("number", "action"),
    [
        (0x00100010, Action.PSEUDONYM),
        (0x00100030, Action.EMPTY),
        (0x00100040, Action.TERM),
        (0x00101010, Action.AGE),
        (0x00080020, Action.DATE),
        (0x0008002A, Action.STAMP),
        (0x00080070, Action.DROP),
        (0x00080080, Action.DROP),
        (0x00080018, Action.UID),
        (0x00081140, Action.ITEMS),
        (0x00081030, Action.DROP),
        (0x00280030, Action.NUMBER),
        (0x00091001, Action.DROP),
        (0x00090010, Action.DROP),
        (0x50000022, Action.DROP),
        (0x60003000, Action.DROP),
        (0x600E3000, Action.DROP),
        (0x00080000, Action.DROP),
        (0x00089999, Action.DROP),
        (0x0040A123, Action.REPLACE),
        (0x0040A730, Action.DROP),
        (0xFFFCFFFC, Action.DROP),
    ],
)
def test_actions(number: int, action: Action) -> None:
    assert action_of(Tag(number)) == action


def test_an_unlisted_identifier_or_name_is_replaced() -> None:
    listed = basic_profile()
    from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined]

    for number, entry in DicomDictionary.items():
        if number in listed or number >> 16 in (0x0002, 0x0004) or entry[4] in ("PatientID", "PatientName"):
            continue
        if entry[0] == "PN":
            assert action_of(Tag(number)) == Action.REPLACE
        if entry[0] == "UI":
            assert action_of(Tag(number)) == Action.UID


def test_the_rules_say_what_they_do() -> None:
    rules = explain()
    assert rules[-1].done == "dropped"
    assert len({rule.attributes for rule in rules}) == len(rules)
