from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medgan_core.dtypes import BFLOAT16
from medgan_core.errors import UpdateError
from medgan_core.messages import Array, Event, Phase, Request, Update
from server.aggregate import average, charged, check_charge, check_norm, check_statistics, check_update, total
from server.state import expected_groups
from tests.server.making import Federation, answer, federation, sealed, with_groups

FLOATS = arrays.arrays(np.float32, (2, 3), elements=st.floats(-100, 100, width=32))


@pytest.fixture(scope="module")
def of() -> Federation:
    """In its first training round, so that both networks come back."""
    made = federation()
    state = replace(made.state, round=1, groups=dict(made.state.groups) | {"statistics": {}})
    return replace(made, state=state)


@pytest.fixture
def check(of: Federation) -> Callable[[Update], None]:
    expected = expected_groups(of.study, of.task, of.state)
    return lambda update: check_update(update, of.request(), expected)


@pytest.fixture
def good(of: Federation) -> Update:
    return answer(of, of.state, "site-1")


def changed(update: Update, group: str, name: str, array: Array | None) -> Update:
    """With another tensor, or without it, and a receipt for that."""
    named = {key: value for key, value in update.groups[group].items() if key != name}
    if array is not None:
        named[name] = array
    return with_groups(update, {**update.groups, group: named})


def tensor(update: Update, name: str = "last.bias") -> Array:
    return update.groups["generator"][name]


# What is acceptable


def test_an_answer_to_the_request_is_accepted(check: Callable[[Update], None], good: Update) -> None:
    check(good)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_refused(
    check: Callable[[Update], None], good: Update, bad: float
) -> None:
    array = tensor(good, "first.weight").copy()
    array[1, 2] = bad
    with pytest.raises(
        UpdateError, match=r"update of site-1 in round 1: generator/first\.weight: holds NaN or"
    ):
        check(changed(good, "generator", "first.weight", array))


def test_another_shape_is_refused_by_name(check: Callable[[Update], None], good: Update) -> None:
    with pytest.raises(UpdateError, match=r"generator/last\.bias: shape \(1, 1\), expected \(1,\)"):
        check(changed(good, "generator", "last.bias", tensor(good)[None]))
    with pytest.raises(UpdateError, match=r"generator/last\.bias: shape \(\), expected"):
        check(changed(good, "generator", "last.bias", tensor(good).reshape(())))


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, ">f4", np.bool_, "U3", object])
def test_another_dtype_is_refused_by_name(check: Callable[[Update], None], good: Update, dtype: Any) -> None:
    with pytest.raises(UpdateError, match=r"generator/last\.bias: dtype .*, expected float32"):
        check(changed(good, "generator", "last.bias", tensor(good).astype(dtype)))


def test_a_missing_tensor_is_refused_by_name(check: Callable[[Update], None], good: Update) -> None:
    with pytest.raises(UpdateError, match=r"tensor of generator missing: last\.bias"):
        check(changed(good, "generator", "last.bias", None))


def test_an_extra_tensor_is_refused_by_name(check: Callable[[Update], None], good: Update) -> None:
    with pytest.raises(UpdateError, match="tensor of generator not expected: patients"):
        check(changed(good, "generator", "patients", np.zeros(3)))


def test_a_missing_group_is_refused_by_name(check: Callable[[Update], None], good: Update) -> None:
    with pytest.raises(UpdateError, match="group missing: discriminator"):
        check(with_groups(good, {"generator": good.groups["generator"]}))


@pytest.mark.parametrize("extra", [{}, {"w": np.zeros(2)}])
def test_an_extra_group_is_refused_by_name(
    check: Callable[[Update], None], good: Update, extra: dict[str, Array]
) -> None:
    with pytest.raises(UpdateError, match="group not expected: momentum"):
        check(with_groups(good, {**good.groups, "momentum": extra}))


def test_missing_and_extra_metrics_are_refused_by_name(check: Callable[[Update], None], good: Update) -> None:
    with pytest.raises(UpdateError, match="metric not expected: real_loss"):
        check(sealed(replace(good, metrics=dict(good.metrics) | {"real_loss": 1.0})))
    with pytest.raises(
        UpdateError, match="metric missing: discriminator_accuracy_on_fakes, discriminator_st"
    ):
        check(sealed(replace(good, metrics={"generator_loss": 1.0})))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_metric_that_is_not_finite_is_refused_by_name(
    check: Callable[[Update], None], good: Update, bad: float
) -> None:
    with pytest.raises(UpdateError, match=r"metric generator_loss is -?(nan|inf), expected a finite number"):
        check(sealed(replace(good, metrics=dict(good.metrics) | {"generator_loss": bad})))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"account": "held_out"}, "charged account held_out: the plan has training"),
        ({"spent": -1.0}, r"says epsilon -1\.0 at delta"),
        ({"spent": np.nan}, "says epsilon nan at delta"),
        ({"delta": 2.0}, r"at delta 2\.0: expected"),
        ({"repeat": 7}, "is for repeat 7: the plan has fewer"),
        ({"local_event": Event(1.0, 1.0, 1), "local_spent": 1.0}, "another event than the plan's"),
    ],
)
def test_a_receipt_that_a_release_would_refuse_is_refused_and_not_accounted(
    of: Federation, good: Update, change: dict[str, Any], reason: str
) -> None:
    bad = replace(good, receipt=replace(good.receipt, **change))
    with pytest.raises(UpdateError, match=f"update of site-1 in round 1: .*{reason}"):
        check_charge(bad, of.request(), of.plan)
    assert charged(bad, of.request(), of.plan) is None
    check_charge(good, of.request(), of.plan)
    assert charged(good, of.request(), of.plan) == good.receipt


@pytest.mark.parametrize(
    ("value", "deviation"), [(1e300, 5.0), (-1.1e9, 0.0), (1e9 + 321, 5.0), (np.nan, 1.0)]
)
def test_a_statistic_that_no_patients_could_make_is_refused(
    good: Update, value: float, deviation: float
) -> None:
    bad = replace(good, groups={"statistics": {"embedding": np.array([[1.0, value]])}})
    with pytest.raises(
        UpdateError, match=r"update of site-1 in round 1: statistics/embedding holds .* at most"
    ):
        check_statistics(bad, deviation)


@pytest.mark.parametrize(("value", "deviation"), [(1e9, 0.0), (-1e9 - 319, 5.0), (0.0, 0.0)])
def test_a_statistic_of_many_patients_and_much_noise_is_accepted(
    good: Update, value: float, deviation: float
) -> None:
    check_statistics(replace(good, groups={"statistics": {"gate": np.array([value])}}), deviation)


@pytest.mark.parametrize("change", [{"round": 2}, {"phase": Phase.EVALUATE}])
def test_an_answer_to_another_round_is_refused(
    check: Callable[[Update], None], good: Update, change: dict[str, Any]
) -> None:
    with pytest.raises(UpdateError, match=r"answers round \d \(.*\), expected round 1 \(train\)"):
        check(sealed(replace(good, **change)))


@pytest.mark.parametrize("change", [{"round": 2}, {"phase": Phase.EVALUATE}, {"site": "site-2"}])
def test_the_receipt_of_another_site_or_round_is_refused(
    check: Callable[[Update], None], good: Update, change: dict[str, Any]
) -> None:
    with pytest.raises(UpdateError, match="its receipt is of another site or round"):
        check(replace(good, receipt=replace(good.receipt, **change)))


@pytest.mark.parametrize("change", [{"run": "run-2"}, {"request_digest": "0" * 64}])
def test_the_receipt_of_another_request_is_refused(
    check: Callable[[Update], None], good: Update, change: dict[str, Any]
) -> None:
    with pytest.raises(UpdateError, match="its receipt is for another request"):
        check(replace(good, receipt=replace(good.receipt, **change)))


def test_the_same_round_of_another_state_is_another_request(of: Federation, good: Update) -> None:
    other = {**of.state.groups, "generator": good.groups["generator"]}
    request: Request = of.request(replace(of.state, groups=other))
    with pytest.raises(UpdateError, match="its receipt is for another request"):
        check_update(good, request, expected_groups(of.study, of.task, of.state))


def test_content_that_was_changed_on_the_way_is_refused(
    check: Callable[[Update], None], good: Update
) -> None:
    with pytest.raises(UpdateError, match="its content is not what its receipt sealed"):
        check(replace(good, groups=changed(good, "generator", "last.bias", tensor(good) + 1).groups))
    with pytest.raises(UpdateError, match="its content is not what its receipt sealed"):
        check(replace(good, metrics=dict(good.metrics) | {"generator_loss": 9.0}))


def test_an_unsealed_update_is_refused(check: Callable[[Update], None], good: Update) -> None:
    with pytest.raises(UpdateError, match="its content is not what its receipt sealed"):
        check(replace(good, receipt=replace(good.receipt, update_digest="")))


def test_not_finite_is_found_in_any_part_and_in_bfloat16(of: Federation) -> None:
    """Update checks go through long tensors part by part."""
    long = np.zeros(2**18 + 5, np.float32)
    for expected, place in ((long, -1), (long, 0), (np.zeros(3, BFLOAT16), 1)):
        state = replace(of.state, groups={**of.state.groups, "generator": {"w": expected}})
        groups = {"generator": {"w": expected}, "discriminator": of.state.groups["discriminator"]}
        array = expected.copy()
        array[place] = np.nan
        bad = with_groups(
            answer(replace(of, state=state), state, "site-1"), {**groups, "generator": {"w": array}}
        )
        check_update(with_groups(bad, groups), of.request(state), groups)
        with pytest.raises(UpdateError, match="generator/w: holds NaN or infinity"):
            check_update(bad, of.request(state), groups)


@given(arrays.arrays(np.float32, (2, 5), elements=st.floats(-3, 3, width=32)), st.floats(0.1, 5))
def test_the_bound_is_on_the_distance_over_all_tensors(moves: Array, bound: float) -> None:
    incoming = {"g": {"w": np.ones(5, np.float32)}, "d": {"w": np.ones((5, 1), np.float32), "n": np.array(1)}}
    one, other = (np.ones(5, np.float32) + moves).astype(np.float32)
    groups = {"g": {"w": one}, "d": {"w": other[:, None], "n": np.array(99)}}
    update = replace(update_of("north", one), groups=groups)
    distance = float(np.sqrt(((np.stack([one, other]).astype(np.float64) - 1) ** 2).sum()))
    check_norm(update, incoming, 0.0)
    check_norm(update, incoming, distance * (1 + 1e-9) + 1e-9)
    if distance > bound:
        said = rf"update of north in round 1: moved by {distance:.4g} from the.*norm_bound is {bound:g}"
        with pytest.raises(UpdateError, match=said.replace("+", r"\+")):
            check_norm(update, incoming, bound)


# The average


def update_of(site: str, array: Array) -> Update:
    receipt: Any = None
    return Update(site, 1, Phase.TRAIN, {"g": {"w": array}}, {}, receipt)


@given(
    st.lists(st.tuples(FLOATS, st.floats(0.01, 100)), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_fedavg_is_the_weighted_mean_in_whatever_order(
    given_: list[tuple[Array, float]], random: Any
) -> None:
    updates = [update_of(f"s{i}", array) for i, (array, _) in enumerate(given_)]
    weights = {f"s{i}": weight for i, (_, weight) in enumerate(given_)}
    mean = average(updates, weights, "g")["w"]
    expected = np.average([a.astype(np.float64) for a, _ in given_], axis=0, weights=list(weights.values()))
    assert mean.dtype == np.float32
    assert np.allclose(mean, expected, rtol=1e-5, atol=1e-5)
    random.shuffle(updates)
    assert np.array_equal(average(updates, weights, "g")["w"], mean)


@given(FLOATS, FLOATS, st.floats(0.1, 10), st.floats(0.1, 10))
def test_weights_are_renormalised_over_the_sites_that_answered(
    one: Array, other: Array, a: float, b: float
) -> None:
    updates = [update_of("a", one), update_of("b", other)]
    with_absent = average(updates, {"a": a, "b": b, "absent": 50.0}, "g")["w"]
    scaled = average(updates, {"a": a / (a + b), "b": b / (a + b)}, "g")["w"]
    assert np.allclose(with_absent, scaled, rtol=1e-5, atol=1e-5)


def test_one_site_alone_is_taken_as_it_is() -> None:
    array = np.array([1e-30, 3e38, -3e38], dtype=np.float32)
    assert np.array_equal(average([update_of("a", array)], {"a": 0.1}, "g")["w"], array)


def test_large_weights_do_not_overflow() -> None:
    large = np.array([3e38], dtype=np.float32)
    mean = average([update_of("a", large), update_of("b", large)], {"a": 0.5, "b": 0.5}, "g")["w"]
    assert np.array_equal(mean, large)


def test_the_total_is_the_plain_sum_in_whatever_order() -> None:
    updates = [
        update_of(name, np.array([value, 1.0])) for name, value in (("a", 0.1), ("b", 0.2), ("c", 1e16))
    ]
    straight, back = total(updates, "g", "w"), total(updates[::-1], "g", "w")
    assert np.array_equal(straight, back)
    assert straight.tolist() == [0.1 + 0.2 + 1e16, 3.0]


def test_the_total_is_that_of_numpy_bit_by_bit() -> None:
    random = np.random.default_rng(0)
    for shape in ((64,), (2, 2, 10), (2, 17)):
        parts = [random.normal(size=shape) * 10.0 ** random.integers(-9, 9) for _ in range(12)]
        updates = [update_of(f"s{i:02d}", part) for i, part in enumerate(parts)]
        assert total(updates, "g", "w").tobytes() == np.sum(parts, axis=0).tobytes()
        assert np.array_equal(updates[0].groups["g"]["w"], parts[0])


def plain_mean(updates: list[Update], weights: dict[str, float]) -> Array:
    """Tensor by tensor in memory, as the definition says."""
    whole = sum(weights.values())
    summed = np.zeros(updates[0].groups["g"]["w"].shape)
    for update in updates:
        summed += (weights[update.site] / whole) * update.groups["g"]["w"]
    return summed.astype(updates[0].groups["g"]["w"].dtype)


@pytest.mark.parametrize("size", [1, 1000, 2**18, 2**19 + 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parts_and_cores_change_no_bit_of_the_mean(size: int, dtype: Any) -> None:
    random = np.random.default_rng(0)
    updates = [update_of(f"s{i}", random.normal(size=size).astype(dtype)) for i in range(5)]
    weights = {update.site: float(i + 1) for i, update in enumerate(updates)}
    expected = plain_mean(updates, weights)
    assert average(updates, weights, "g")["w"].tobytes() == expected.tobytes()


def test_the_mean_of_bfloat16_is_that_of_float32_rounded() -> None:
    ones = [np.array([1.0, 3.0], BFLOAT16), np.array([2.0, 3.015625], BFLOAT16)]
    mean = average([update_of(n, a) for n, a in zip("ab", ones, strict=True)], {"a": 1.0, "b": 1.0}, "g")["w"]
    assert mean.dtype == BFLOAT16
    expected = sum(0.5 * array.astype(np.float32) for array in ones)
    assert mean.tobytes() == np.asarray(expected).astype(BFLOAT16).tobytes()


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_are_the_largest_whatever_the_weights(dtype: Any) -> None:
    counts = [np.array(value).astype(dtype) for value in (0, 7, 3)]
    updates = [update_of(f"s{i}", count) for i, count in enumerate(counts)]
    found = average(updates, {"s0": 9.0, "s1": 0.1, "s2": 1.0}, "g")["w"]
    assert (found.dtype, found.shape) == (np.dtype(dtype), ())
    assert found == np.array(7).astype(dtype)
