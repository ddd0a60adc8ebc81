from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.errors import InputError
from medgan_core.release.labels import label_array, label_counts, largest_remainder, parse_labels

NAMES = st.text(st.characters(exclude_characters=",", codec="utf-8"), min_size=1).filter(
    lambda name: name == name.strip()
)
SHARES = st.lists(st.floats(0, 1e6), min_size=1, max_size=12).filter(lambda shares: sum(shares) > 0)


@given(st.integers(0, 10**6), SHARES)
def test_the_largest_remainder_shares_out_everything(total: int, shares: list[float]) -> None:
    counts = largest_remainder(total, shares)
    assert sum(counts) == total
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - total * share / sum(shares)) < 1 + 1e-6


def test_ties_go_to_the_earlier() -> None:
    assert largest_remainder(5, [1, 1, 1]) == [2, 2, 1]
    assert largest_remainder(10, [0.33, 0.67]) == [3, 7]


@given(st.dictionaries(NAMES, st.integers(0, 10**9), min_size=1, max_size=6))
def test_labels_are_read_as_they_are_written(counts: dict[str, int]) -> None:
    assert parse_labels(",".join(f"{name} = {count}" for name, count in counts.items())) == counts


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InputError):
        assert all(name and count >= 0 for name, count in parse_labels(text).items())


@pytest.mark.parametrize("text", ["", "a", "a=", "=3", "a=-1", "a=1.5", "a=1,", "a=1,a=2", "a=٣"])
def test_labels_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="--labels"):
        parse_labels(text)


def test_counts_by_name_and_by_proportion() -> None:
    assert label_counts({"b": 2}, ("a", "b")) == [0, 2]
    assert label_counts(7, ("a", "b"), (0.25, 0.75)) == [2, 5]
    assert label_counts(7, ("a", "b")) == [4, 3]
    assert label_array([1, 2]).tolist() == [0, 1, 1]


@pytest.mark.parametrize("wanted", [0, -1, 10**30, {}, {"a": 0}, {"c": 1}, {"a": -1, "b": 3}])
def test_counts_that_cannot_be_drawn(wanted: int | dict[str, int]) -> None:
    with pytest.raises(InputError):
        label_counts(wanted, ("a", "b"))
