import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import Tensor, nn, optim

from medgan_core.errors import NoiseError, RefusedError
from medgan_core.messages import Event, Phase
from medgan_core.privacy.engine import PrivateOptimizer
from medgan_core.privacy.noise import Keystream, SecretRandom, SeededRandom
from medgan_core.privacy.noise_watch import (
    STOP,
    WIDTH,
    NoiseReading,
    NoiseWatch,
    chi_square_p_value,
    deviation_bound,
)
from medgan_core.privacy.plan import PrivacyPlan

CLIP, SIGMA, STEPS = 0.5, 3.0, 20
EVENT = Event(SIGMA, 0.5, STEPS)
PLAN = PrivacyPlan(True, "patient", "add/remove", 1e-5, CLIP, 0.5, 8.0, 4, 1, 2, STEPS, SIGMA, 2.5, 3.5)


def _steps(watch: NoiseWatch, random: SecretRandom, steps: int = STEPS, sigma: float = SIGMA) -> Tensor:
    """The weights after steps of nobody, under a watch."""
    network = nn.Linear(5, 1, bias=False).double()
    nn.init.zeros_(network.weight)
    optimizer = PrivateOptimizer(
        network,
        optim.SGD(network.parameters(), 1.0),
        clip_norm=CLIP,
        noise_multiplier=sigma,
        nominal_batch=8.0,
        random=random,
        watch=watch,
    )
    nothing = torch.zeros(0, 5, dtype=torch.float64)
    for _ in range(steps):
        optimizer.step(
            lambda network, images, labels: network(images).squeeze(1),
            nothing,
            nothing[:, 0],
            torch.zeros(0, dtype=torch.int64),
        )
    return network.weight.detach()


def _reading(random: SecretRandom, steps: int = STEPS, sigma: float = SIGMA) -> NoiseReading:
    watch = PLAN.watch(Phase.TRAIN)
    _steps(watch, random, steps, sigma)
    reading = watch.reading()
    assert reading is not None
    return reading


class Same:
    """The first draw again and again."""

    def __init__(self) -> None:
        self.first: Tensor | None = None

    def normal(self, count: int) -> Tensor:
        self.first = Keystream().normal(count) if self.first is None else self.first
        return self.first.clone()

    def uniform(self, count: int) -> Tensor:
        raise AssertionError


def test_sound_noise_goes_on() -> None:
    reading = _reading(Keystream())
    assert (reading.calls, reading.count, reading.repeated) == (STEPS, STEPS * WIDTH, 0)
    assert reading.p_value > STOP
    reading.check()


@pytest.mark.parametrize("sigma", [SIGMA / 2, SIGMA * 0.85, SIGMA * 1.2, 0.0])
def test_other_noise_than_was_charged_stops_the_site(sigma: float) -> None:
    with pytest.raises(NoiseError, match=r"deviation is .* of what was charged|used before"):
        _reading(SeededRandom(1), sigma=sigma).check()


def test_noise_that_is_used_twice_stops_the_site() -> None:
    reading = _reading(Same())
    assert reading.repeated == (STEPS - 1) * WIDTH
    with pytest.raises(NoiseError, match="used before"):
        reading.check()


@pytest.mark.parametrize("steps", [0, STEPS - 1, STEPS + 1])
def test_steps_that_were_not_charged_stop_the_site(steps: int) -> None:
    with pytest.raises(NoiseError, match=f"{steps} draws where {STEPS} steps were charged"):
        _reading(Keystream(), steps=steps).check()


def test_the_error_says_what_to_do() -> None:
    with pytest.raises(RefusedError, match="medgan-client audit"):
        _reading(Keystream(), steps=1).check()


def test_what_is_seen_is_what_was_added_and_not_what_was_meant() -> None:
    """A divisor, a rule or a weight changes nothing; the deviation in the sum does."""
    watch = NoiseWatch(EVENT, SIGMA * CLIP)
    _steps(watch, SeededRandom(3), steps=1)
    drawn = SeededRandom(3).normal(5 + WIDTH)[5:].numpy()
    reading = watch.reading()
    assert reading is not None
    assert reading.chi_square == pytest.approx(float(np.square(drawn).sum()), rel=1e-12)


def test_weights_get_the_draws_before_the_watch_and_no_others() -> None:
    moved = -_steps(NoiseWatch(EVENT, SIGMA * CLIP), SeededRandom(3), steps=1).flatten()
    assert torch.allclose(moved, SeededRandom(3).normal(5 + WIDTH)[:5] * SIGMA * CLIP / 8)


def test_without_noise_nothing_is_drawn_and_nothing_read() -> None:
    for watch in (NoiseWatch(replace(EVENT, noise_multiplier=0.0), 0.0), NoiseWatch(EVENT, math.inf)):
        assert watch.width == 0
        watch.see(torch.zeros(0))
        assert watch.reading() is None
    assert replace(PLAN, private=False).watch(Phase.TRAIN).reading() is None


def test_a_plan_promises_sigma_c_to_steps_sigma_to_queries_and_its_share_to_a_sum() -> None:
    found = [PLAN.watch(phase).deviation for phase in (Phase.TRAIN, Phase.ONE_SHOT, Phase.EVALUATE)]
    assert found == [SIGMA * CLIP, 2.5, 3.5]
    summed = replace(PLAN, sum_sites=3, sum_collude=1, sum_threshold=3, one_shot_size=40, evaluation_size=40)
    assert summed.watch(Phase.ONE_SHOT).deviation == summed.event(Phase.ONE_SHOT).share_deviation


def test_on_a_grid_equal_calls_are_a_wonder_and_equal_numbers_are_not() -> None:
    event = Event(1.0, 1.0, 2, 2, 10, 2.0)
    drawn = [SeededRandom(seed).discrete(WIDTH, 2.0) for seed in (1, 2)]
    for second, repeated in ((drawn[1], 0), (drawn[0], WIDTH)):
        watch = NoiseWatch(event, 2.0)
        watch.see(drawn[0])
        watch.see(second)
        reading = watch.reading()
        assert reading is not None
        assert reading.repeated == repeated


def test_200_null_rounds_raise_no_alarm() -> None:
    values = [_reading(SeededRandom(seed)).p_value for seed in range(200)]
    assert min(values) >= STOP
    assert sum(value < 0.05 for value in values) <= 18


def test_the_line_of_the_log_holds_no_draw_and_both_epsilons() -> None:
    line = _reading(SeededRandom(1)).to_json(1e-5)
    assert set(line) == {
        "calls", "steps", "coordinates", "chi_square", "repeated", "p", "epsilon_charged", "epsilon_seen",
    }  # fmt: skip
    assert 0.9 < line["epsilon_seen"] / line["epsilon_charged"] < 1.02
    half = _reading(SeededRandom(1), sigma=SIGMA / 2).to_json(1e-5)
    assert half["epsilon_seen"] > 1.8 * half["epsilon_charged"]
    assert _reading(SeededRandom(1), steps=0).to_json(1e-5)["epsilon_seen"] == "inf"


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20_000), st.floats(0.001, 0.999))
def test_tails_and_bounds_are_those_of_chi_square(count: int, chance: float) -> None:
    value = float(chi2.ppf(chance, count))
    assert chi_square_p_value(value, count) == pytest.approx(2 * min(chance, 1 - chance), abs=1e-6)
    expected = math.sqrt(value / chi2.ppf(0.05, count))
    assert deviation_bound(value, count) == pytest.approx(expected, rel=1e-9)


def test_the_bound_of_the_deviation_holds_19_times_in_20() -> None:
    drawn = np.random.default_rng(0).chisquare(5120, 2000)
    assert np.mean([deviation_bound(value, 5120) >= 1 for value in drawn]) >= 0.94


def test_joint_steps_draw_less_beside_since_discrete_noise_is_dear() -> None:
    widths = [
        NoiseWatch(Event(1.0, rate, 1, 2, dimension, 100.0), 100.0).width
        for rate, dimension in ((1.0, 40), (0.1, 40), (0.1, 20_000), (0.1, 10**6))
    ]
    assert widths == [WIDTH, 64, 100, WIDTH]
    event = Event(1.0, 0.1, 1, 2, 40, 100.0)
    for deviation, sound in ((100.0, True), (50.0, False)):
        watch = NoiseWatch(event, 100.0)
        watch.see(SeededRandom(2).discrete(watch.width, deviation))
        reading = watch.reading()
        assert reading is not None
        assert (reading.p_value > STOP) == sound
