import math
from collections.abc import Callable

import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.dp_event import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants.analysis import rdp

from medgan_core.messages import Event
from medgan_core.privacy import accounting
from medgan_core.privacy.accounting import epsilon, smallest_noise

DELTA = 1e-5
STEPS = Event(1.0, 0.05, 200)
ONE_SHOT = Event(2.0, 1.0, 1)


def _second_opinion(events: tuple[Event, ...], delta: float) -> float:
    """dp-accounting's privacy loss distributions: the worse of adding and of removing a patient."""
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    for event in events:
        gaussian = GaussianDpEvent(event.noise_multiplier)
        sampled = event.sampling_rate < 1
        mechanism = PoissonSampledDpEvent(event.sampling_rate, gaussian) if sampled else gaussian
        accountant.compose(mechanism, event.steps)
    return float(accountant.get_epsilon(delta))


def _gaussian_delta(sigma: float, asked: float) -> float:
    """δ of one Gaussian query of sensitivity 1 at ε (Balle and Wang 2018, theorem 8): exact."""

    def below(value: float) -> float:
        return 0.5 * math.erfc(-value / math.sqrt(2))

    half, far = 1 / (2 * sigma), asked * sigma
    return below(half - far) - math.exp(asked) * below(-half - far)


@pytest.fixture
def no_accountant(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode() -> None:
        raise AssertionError("an accountant was asked")

    accounting._epsilon.cache_clear()
    monkeypatch.setattr(accounting, "PRVAccountant", explode)
    monkeypatch.setattr(accounting, "RDPAccountant", explode)


@pytest.mark.parametrize(
    ("events", "delta"),
    [
        ((Event(0.6, 1.0, 1),), 1e-5),
        ((Event(1.0, 1.0, 1),), 1e-6),
        ((Event(4.0, 1.0, 10),), 1e-5),
        ((Event(20.0, 1.0, 1),), 1e-5),
        ((Event(0.6, 0.01, 100),), 1e-5),
        ((Event(1.0, 0.05, 300),), 1e-5),
        ((Event(1.2, 0.3, 30),), 1e-5),
        ((Event(8.0, 0.1, 50),), 1e-4),
        ((Event(2.0, 1.0, 1), Event(1.0, 0.05, 200)), 1e-5),
        ((Event(1.5, 1.0, 2), Event(0.9, 0.02, 60), Event(3.0, 0.5, 5)), 1e-6),
    ],
)
def test_epsilon_agrees_with_the_second_accountant_or_is_safe(
    events: tuple[Event, ...], delta: float
) -> None:
    ours, theirs = epsilon(events, delta), _second_opinion(events, delta)
    assert 0.99 * theirs <= ours <= 1.02 * theirs


@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.7, 5.0, 12.0])
def test_epsilon_of_one_gaussian_is_the_exact_one_within_a_percent(sigma: float) -> None:
    ours = epsilon([Event(sigma, 1.0, 1)], DELTA)
    assert _gaussian_delta(sigma, ours) <= DELTA
    assert _gaussian_delta(sigma, 0.99 * ours) > DELTA


def test_very_little_noise_gets_a_finite_epsilon_on_the_safe_side() -> None:
    ours = epsilon([Event(0.05, 1.0, 1)], DELTA)
    assert _gaussian_delta(0.05, ours) <= DELTA
    assert _gaussian_delta(0.05, 0.9 * ours) > DELTA


def test_where_the_fine_accountant_fails_the_coarse_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Overflowing:
        history: list[tuple[float, float, int]]

        def get_epsilon(self, delta: float, eps_error: float) -> float:
            raise OverflowError("grid")

    fine = epsilon([STEPS], DELTA)
    accounting._epsilon.cache_clear()
    monkeypatch.setattr(accounting, "PRVAccountant", Overflowing)
    assert fine < epsilon([STEPS], DELTA) < 1.3 * fine
    accounting._epsilon.cache_clear()


@pytest.mark.usefixtures("no_accountant")
def test_an_infinite_event_is_infinite_without_asking_an_accountant() -> None:
    infinite = Event(0.0, 1.0, 1)
    assert epsilon([infinite], DELTA) == math.inf
    assert epsilon([STEPS, infinite, ONE_SHOT], DELTA) == math.inf
    assert epsilon([Event(0.0, 0.05, 100)], DELTA) == math.inf


@pytest.mark.usefixtures("no_accountant")
def test_nothing_costs_nothing() -> None:
    assert epsilon([], DELTA) == 0
    assert epsilon([Event(1.0, 0.05, 0)], DELTA) == 0


@pytest.mark.usefixtures("no_accountant")
@pytest.mark.parametrize(
    "event",
    [
        Event(-1.0, 1.0, 1),
        Event(math.nan, 1.0, 1),
        Event(math.inf, 1.0, 1),
        Event(1.0, 0.0, 1),
        Event(1.0, -0.1, 1),
        Event(1.0, 1.1, 1),
        Event(1.0, math.nan, 1),
        Event(1.0, 0.05, -100),
    ],
)
def test_a_malformed_event_never_lowers_what_is_spent(event: Event) -> None:
    assert epsilon([STEPS, event], DELTA) == math.inf


def test_events_of_one_mechanism_merge() -> None:
    whole = epsilon([STEPS, ONE_SHOT], DELTA)
    parts = [Event(1.0, 0.05, 50), ONE_SHOT, Event(1.0, 0.05, 149), Event(1.0, 0.05, 1)]
    assert epsilon(parts, DELTA) == whole
    assert epsilon(iter(reversed(parts)), DELTA) == whole


def test_mechanisms_that_differ_do_not_merge() -> None:
    base = epsilon([STEPS, STEPS], DELTA)
    assert epsilon([STEPS, Event(0.8, 0.05, 200)], DELTA) > 1.05 * base
    assert epsilon([STEPS, Event(1.0, 0.08, 200)], DELTA) > 1.05 * base


def test_the_sampling_rate_counts_exactly() -> None:
    costs = [epsilon([Event(1.0, q, 30)], DELTA) for q in (0.25, 0.3, 1 / 3)]
    assert costs[0] * 1.1 < costs[1] < costs[2] / 1.05


def test_every_further_step_and_every_smaller_delta_costs() -> None:
    costs = [epsilon([ONE_SHOT, Event(1.0, 0.05, steps)], DELTA) for steps in (1, 10, 100, 101)]
    assert costs == sorted(set(costs))
    assert epsilon([STEPS], 1e-6) > epsilon([STEPS], 1e-5)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.4, 60), st.floats(1.0001, 1.2))
def test_more_noise_never_costs_more(sigma: float, factor: float) -> None:
    less, more = (epsilon([Event(s, 1.0, 1)], DELTA) for s in (sigma, sigma * factor))
    assert more <= less


def _single(sigma: float) -> tuple[Event, ...]:
    return (Event(sigma, 1.0, 1),)


def _steps(sigma: float) -> tuple[Event, ...]:
    return (ONE_SHOT, Event(sigma, 0.1, 20))


@pytest.mark.parametrize(
    ("events", "target"),
    [(_single, 0.02), (_single, 0.3), (_single, 1.0), (_single, 8.0), (_steps, 3.0)],
)
def test_the_smallest_noise_holds_its_target_and_is_tight(
    events: Callable[[float], tuple[Event, ...]], target: float
) -> None:
    sigma = smallest_noise(events, target, DELTA)
    assert epsilon(events(sigma), DELTA) <= target
    assert epsilon(events(sigma / 1.005), DELTA) > target


@pytest.mark.parametrize("target", [1.0, 8.0])
def test_the_smallest_noise_of_one_gaussian_is_the_exact_one(target: float) -> None:
    sigma = smallest_noise(_single, target, DELTA)
    assert _gaussian_delta(sigma, target) <= DELTA
    assert _gaussian_delta(0.99 * sigma, target) > DELTA


def test_the_search_holds_its_target_where_the_coarse_accountant_misleads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for answer in (0.0, math.inf):
        monkeypatch.setattr(accounting, "_rdp_epsilon", lambda history, delta, answer=answer: answer)
        sigma = smallest_noise(_single, 5.0, DELTA)
        assert 0.99 * 5 < epsilon(_single(sigma), DELTA) <= 5


def test_a_target_that_no_noise_reaches_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no noise multiplier up to 10000 reaches epsilon 0\.5"):
        smallest_noise(lambda sigma: (Event(1.0, 1.0, 1), Event(sigma, 1.0, 1)), 0.5, DELTA)


def test_what_one_step_spends_at_each_order_is_worked_out_once() -> None:
    kept = rdp._compute_rdp
    epsilon((Event(4.25, 0.31, 3),), DELTA)
    worked_out = kept.cache_info().misses
    epsilon((Event(4.25, 0.31, 4),), DELTA)
    assert kept.cache_info().misses == worked_out
    assert kept(0.31, 4.25, 2.5) == kept.__wrapped__(0.31, 4.25, 2.5)
