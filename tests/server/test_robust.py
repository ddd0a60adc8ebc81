"""Robust rules against their definitions, written down plainly, and against wild sites."""

import os
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medgan_core.dtypes import BFLOAT16
from medgan_core.errors import RoundError
from medgan_core.messages import Array, Groups, Phase, Update
from medgan_core.sections import AggregationConfig
from server import parts
from server.robust import combined, krum, square_distances, trimmed
from server.spill import Spill

RULES = ("mean", "median", "trimmed_mean", "krum")
SHAPES = {"w": (2, 3), "b": (5,)}
SITES = st.integers(5, 9)
ANYTHING = st.floats(width=32, allow_nan=False, allow_infinity=False)


def update_of(site: str, groups: Groups) -> Update:
    receipt: Any = None
    return Update(site, 1, Phase.TRAIN, groups, {}, receipt)


def updates_of(stacked: Array, names: Any = None) -> list[Update]:
    """One update for each row: two groups of the tensors above, and an integer."""
    made = []
    for number, row in enumerate(stacked.astype(np.float32)):
        one, other, third = np.split(row, [6, 11])
        groups = {
            "generator": {"w": one.reshape(2, 3), "b": other},
            "discriminator": {"w": third, "n": np.array(number, np.int64)},
        }
        made.append(update_of(names[number] if names else f"s{number:02d}", groups))
    return made


def flat(groups: Groups) -> Array:
    names = (("generator", "w"), ("generator", "b"), ("discriminator", "w"))
    return np.concatenate([np.ravel(groups[group][name]) for group, name in names])


def zeros() -> Groups:
    (made,) = updates_of(np.zeros((1, 15)))
    return made.groups


def together(rule: str, updates: list[Update], trim: float = 0.2) -> Groups:
    asked = AggregationConfig.model_validate({"rule": rule, "trim": trim})
    return combined(asked, updates, {update.site: 1.0 for update in updates}, zeros())[0]


def stacks(elements: st.SearchStrategy[float] = ANYTHING) -> st.SearchStrategy[Array]:
    return SITES.flatmap(lambda k: arrays.arrays(np.float32, (k, 15), elements=elements))


# The definitions


@given(stacks())
def test_the_median_is_numpys(stacked: Array) -> None:
    found = flat(together("median", updates_of(stacked)))
    assert np.array_equal(found, np.median(stacked.astype(np.float64), axis=0).astype(np.float32))


@given(stacks(), st.sampled_from([0.2, 0.25, 0.4]))
def test_the_trimmed_mean_drops_as_many_at_both_ends(stacked: Array, trim: float) -> None:
    cut = int(trim * len(stacked) + 1e-9)
    expected = [np.mean(sorted(map(float, column))[cut : len(stacked) - cut]) for column in stacked.T]
    found = flat(together("trimmed_mean", updates_of(stacked), trim))
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-37)


def plain_krum(stacked: Array, wild: int) -> Array:
    """Scores as Blanchard et al. define them."""
    wide = stacked.astype(np.float64)
    scores = []
    for one in range(len(wide)):
        others = sorted(float(np.sum((wide[one] - wide[j]) ** 2)) for j in range(len(wide)) if j != one)
        scores.append(sum(others[: len(wide) - wild - 2]))
    return np.array(scores)


@given(stacks(st.floats(-100, 100, width=32)))
def test_krum_takes_the_site_that_is_nearest_to_those_around_it(stacked: Array) -> None:
    updates, scores = updates_of(stacked), plain_krum(stacked, 1)
    chosen = updates.index(krum(updates, 1, zeros()))
    assert scores[chosen] <= scores.min() * (1 + 1e-9) + 1e-9


@given(stacks(st.floats(-100, 100, width=32)))
def test_distances_are_those_between_the_updates(stacked: Array) -> None:
    wide = stacked.astype(np.float64)
    expected = ((wide[:, None] - wide) ** 2).sum(axis=2)
    assert np.allclose(square_distances(updates_of(stacked), zeros()), expected, rtol=1e-9, atol=1e-7)


def test_krum_takes_an_update_whole_and_names_its_site() -> None:
    stacked = np.array([[0.0] * 15, [1.0] * 15, [1.1] * 15, [1.2] * 15, [9.0] * 15], np.float32)
    updates = updates_of(stacked)
    groups, told = combined(AggregationConfig(rule="krum"), updates, {u.site: 1.0 for u in updates}, zeros())
    assert told == {"krum": "s02"}
    assert np.array_equal(flat(groups), stacked[2])
    assert groups["discriminator"]["n"] == 2


def test_far_from_the_origin_distances_keep_their_digits() -> None:
    far = np.float32(2**20)
    stacked = far + np.array([[0.0], [1.0], [2.0]], np.float32) * np.ones((3, 15), np.float32)
    incoming = {g: {n: np.full_like(a, far) for n, a in arrays_.items()} for g, arrays_ in zeros().items()}
    assert np.allclose(square_distances(updates_of(stacked), incoming)[0], [0, 15, 60], rtol=1e-12)


# What holds for all of them


@pytest.mark.parametrize("rule", RULES)
@given(stacked=stacks(), random=st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_no_bit(rule: str, stacked: Array, random: Any) -> None:
    updates = updates_of(stacked)
    before = flat(together(rule, updates))
    random.shuffle(updates)
    assert flat(together(rule, updates)).tobytes() == before.tobytes()


@pytest.mark.parametrize("rule", RULES)
@given(stacked=stacks())
def test_on_disk_and_in_memory_agree(rule: str, stacked: Array) -> None:
    updates = updates_of(stacked)
    with Spill() as spill:
        spilled = together(rule, [spill.keep(update) for update in updates])
    assert flat(spilled).tobytes() == flat(together(rule, updates)).tobytes()
    assert spilled["discriminator"]["n"] == together(rule, updates)["discriminator"]["n"]


@pytest.mark.parametrize("rule", RULES)
def test_parts_and_threads_change_no_bit(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    updates = updates_of(np.random.default_rng(1).normal(size=(7, 15)))
    whole = flat(together(rule, updates))
    monkeypatch.setattr("server.robust.part_of", lambda sites: 2)
    monkeypatch.setattr("server.aggregate.each_part", lambda like, work: parts.each_part(like, work, 2))
    for cores in ({0}, {0, 1, 2}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, cores=cores: cores)
        assert flat(together(rule, updates)).tobytes() == whole.tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_equal_updates_come_through_in_every_dtype(rule: str) -> None:
    """Halves, integers and booleans unchanged; a mean of longer floats to the last digit."""
    random = np.random.default_rng(0)
    groups = {
        "g": {
            "half": random.normal(size=7).astype(BFLOAT16),
            "single": random.normal(size=(2, 3)).astype(np.float32),
            "double": random.normal(size=()),
            "count": np.array(12345678901234567, np.int64),
            "flags": np.array([True, False]),
            "none": np.zeros((0, 3), np.float32),
        }
    }
    updates = [update_of(f"s{i}", groups) for i in range(5)]
    asked = AggregationConfig.model_validate({"rule": rule})
    found, _ = combined(asked, updates, {update.site: 1.0 for update in updates}, groups)
    for name, array in groups["g"].items():
        back = found["g"][name]
        assert (back.dtype, back.shape) == (array.dtype, array.shape), name
        if name in ("single", "double") and rule in ("mean", "trimmed_mean"):
            assert np.allclose(back, array, rtol=2 * np.finfo(array.dtype).eps, atol=0)
        else:
            assert back.tobytes() == array.tobytes(), name


# Wild sites


WILD = st.sampled_from([3e38, -3e38, 1e30, 1e3, -1e3])


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "krum"])
@given(
    honest=arrays.arrays(np.float32, (5, 15), elements=st.floats(-1, 1, width=32)),
    wild=arrays.arrays(np.float32, (2, 15), elements=WILD),
    places=st.permutations(range(7)),
)
def test_as_many_wild_sites_as_were_planned_for_carry_nothing_away(
    rule: str, honest: Array, wild: Array, places: list[int]
) -> None:
    stacked = np.concatenate([honest, wild])[places]
    found = flat(together(rule, updates_of(stacked), trim=2 / 7))
    assert (found >= honest.min(axis=0)).all()
    assert (found <= honest.max(axis=0)).all()


@pytest.mark.parametrize(("rule", "expected"), [("mean", 2**62), ("median", 3), ("trimmed_mean", 3)])
def test_a_wild_count_is_believed_by_the_mean_alone(rule: str, expected: int) -> None:
    updates = [
        update_of(f"s{i}", {"g": {"n": np.array(n, np.int64)}}) for i, n in enumerate((3, 3, 4, 2, 2**62))
    ]
    asked = AggregationConfig.model_validate({"rule": rule})
    found, _ = combined(asked, updates, {update.site: 1.0 for update in updates}, updates[0].groups)
    assert found["g"]["n"] == expected


# Too few


def test_too_few_sites_for_a_rule_are_told() -> None:
    updates = updates_of(np.zeros((4, 15)))
    with pytest.raises(RoundError, match="4 updates, from which 4 are to be cut off"):
        trimmed([update.groups["generator"] for update in updates], 2)
    with pytest.raises(RoundError, match="4 updates, for Krum with 2 wild sites"):
        krum(updates, 2, zeros())


def test_a_tie_goes_to_the_first_by_name() -> None:
    for names in permutations(["a", "b", "c", "d", "e"]):
        updates = updates_of(np.ones((5, 15)), names)
        groups, told = combined(
            AggregationConfig(rule="krum"), updates, {u.site: 1.0 for u in updates}, zeros()
        )
        assert told == {"krum": "a"}
        assert groups["discriminator"]["n"] == names.index("a")
