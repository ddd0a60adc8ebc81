import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.errors import ConfigError
from medgan_core.privacy.sum_rules import SumRules


@pytest.mark.parametrize(
    ("sites", "drop", "threshold"), [(3, 0, 3), (4, 0, 3), (5, 1, 4), (10, 2, 6), (20, 4, 11)]
)
def test_the_defaults_at_a_few_sizes(sites: int, drop: int, threshold: int) -> None:
    assert SumRules.of(sites) == SumRules(sites, drop, 1, threshold)


@given(st.integers(3, 500), st.integers(1, 60), st.none() | st.integers(0, 200))
def test_rules_that_are_made_hold_the_inequalities(sites: int, collude: int, drop: int | None) -> None:
    try:
        rules = SumRules.of(sites, collude, drop)
    except ConfigError:
        # No smaller threshold would do: it is the numbers that do not go together.
        lost = sites // 5 if drop is None else drop
        threshold = (sites + collude) // 2 + 1
        assert threshold > sites - lost or sites - lost - collude < 1
        return
    assert rules.collude < rules.threshold <= sites - rules.drop
    assert 2 * rules.threshold > sites + collude
    assert 2 * (rules.threshold - 1) <= sites + collude  # no site more than needed
    assert rules.shares == sites - rules.drop - collude >= 1
    assert rules.survivors >= 2


@given(st.integers(3, 2000))
def test_every_size_from_three_has_a_default(sites: int) -> None:
    assert SumRules.of(sites).collude == 1


@pytest.mark.parametrize("sites", [0, 1, 2])
def test_fewer_than_three_sites_have_no_secure_sum(sites: int) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.secure_sum.*at least 3 sites"):
        SumRules.of(sites)


@pytest.mark.parametrize(
    ("sites", "drop", "collude", "threshold", "name"),
    [
        (3, 1, 1, 3, "drop"),  # T > K - drop
        (4, 2, 2, 3, "drop"),  # no share is left that is secret
        (4, -1, 1, 3, "drop"),
        (4, 0, 0, 3, "collude"),
        (9, 0, 4, 4, "drop"),  # T = collude
        (10, 2, 1, 5, "threshold"),  # 2T = K, an active server asks for two lists
    ],
)
def test_numbers_that_break_an_inequality_are_refused_by_name(
    sites: int, drop: int, collude: int, threshold: int, name: str
) -> None:
    with pytest.raises(ConfigError, match=name):
        SumRules(sites, drop, collude, threshold)
