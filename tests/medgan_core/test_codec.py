from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.codec import flatten, unflatten
from medgan_core.errors import ConfigError

KEYS = st.text(alphabet="abc_", min_size=1, max_size=4)
VALUES = st.one_of(st.integers(), st.booleans(), st.text(max_size=5), st.lists(st.integers(), max_size=3))
TABLES = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(VALUES, inner), max_size=3),
    max_leaves=8,
)


@given(TABLES)
def test_unflatten_is_the_inverse_of_flatten(body: dict[str, Any]) -> None:
    flat = flatten(body)
    assert unflatten(flat) == body
    assert all(not value for value in flat.values() if isinstance(value, dict))


@pytest.mark.parametrize("flat", [{"a": 1, "a.b": 2}, {"a.b": 2, "a": 1}])
def test_a_key_is_no_value_and_table_at_once(flat: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no value and table at once"):
        unflatten(flat)
