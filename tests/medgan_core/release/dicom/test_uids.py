import uuid

from hypothesis import given
from hypothesis import strategies as st

from medgan_core.release.dicom.uids import derived_uid, is_uid, short_code

MODEL = "ab" * 32


def test_the_same_names_give_the_same_identifier_for_ever() -> None:
    assert derived_uid(MODEL, 7, 3, "instance") == "2.25.223321494467293419052990991734841698983"


@given(st.integers(0, 2**63), st.integers(0, 10**9), st.lists(st.text(), max_size=3))
def test_identifiers_are_uuids_in_the_form_of_the_standard(seed: int, index: int, names: list[str]) -> None:
    uid = derived_uid(MODEL, seed, index, *names)
    assert is_uid(uid)
    assert uuid.UUID(int=int(uid.removeprefix("2.25."))).version == 5
    assert len(short_code(uid)) == 12


def test_whatever_differs_gives_another_identifier() -> None:
    ways = {
        derived_uid(MODEL, 1, 2, "a", "b"),
        derived_uid("cd" * 32, 1, 2, "a", "b"),
        derived_uid(MODEL, 2, 2, "a", "b"),
        derived_uid(MODEL, 1, 3, "a", "b"),
        derived_uid(MODEL, 1, 2, "a/b"),
        derived_uid(MODEL, 1, 2, "a~1b"),
        derived_uid(MODEL, 1, 2, "ab", ""),
    }
    assert len(ways) == 7


def test_what_is_no_identifier() -> None:
    for text in ("", "2", "2.", "2..1", "2.01", "a.b", "2.25.-1", "1." + "2" * 63):
        assert not is_uid(text)
    assert is_uid("1." + "2" * 62)
