"""A plan of joint steps: one sampled sum of gradients for each, and what that costs."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from medgan_core.config import Study, parse_study
from medgan_core.errors import ConfigError
from medgan_core.gan.task import synthesis_of
from medgan_core.gan.tasks import make_task
from medgan_core.messages import Phase
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.grid import STEPS, sensitivity_of_gradients, total_deviation
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.privacy.planner import advise
from medgan_core.tensors import weights_of


def study(**changes: Any) -> Study:
    body: dict[str, Any] = {
        "name": "x",
        "strategy": "refine",
        "rounds": 2,
        "share": "gradient",
        "data": {"kind": "npz", "path": "x", "classes": ["a", "b"]},
        "sites": {"count": 3},
        "privacy": {"epsilon": 8.0, "sampling_rate": 0.1, "secure_sum": True},
        "training": {"discriminator_steps": 10},
        "one_shot": {"frequencies": 50},
        "evaluation": {"attack": False},
    }
    return parse_study(body | changes)


@pytest.fixture(scope="module")
def plan() -> PrivacyPlan:
    return PrivacyPlan.of(study(), "patient")


def test_each_step_is_a_round_and_one_event(plan: PrivacyPlan) -> None:
    assert (plan.rounds, plan.steps) == (20, 1)
    assert [plan.phase(n) for n in (0, 1, 20, 21, 22, 23)] == [
        Phase.ONE_SHOT,
        Phase.TRAIN,
        Phase.TRAIN,
        Phase.GATE,
        Phase.EVALUATE,
        None,
    ]
    assert all(plan.summed(phase) for phase in Phase)
    event = plan.event(Phase.TRAIN)
    assert (event.sampling_rate, event.steps, event.shares) == (0.1, 1, 2)
    assert event.dimension == plan.gradient_size == study().discriminator_size
    assert plan.events("training")[1:] == (event,) * 20


def test_the_noise_pays_for_the_rounding(plan: PrivacyPlan) -> None:
    event = plan.event(Phase.TRAIN)
    whole = event.noise_multiplier * sensitivity_of_gradients(event.dimension)
    assert event.share_deviation == pytest.approx(whole / math.sqrt(2))
    assert sensitivity_of_gradients(event.dimension) > STEPS + math.sqrt(event.dimension)
    assert total_deviation(event, 3) >= plan.noise_multiplier * math.sqrt(3 / 2)


def test_the_run_costs_what_was_asked_and_more_without_trust(plan: PrivacyPlan) -> None:
    assert 0.99 * 8 <= plan.epsilon() <= 8
    assert plan.local_epsilon() > 1.2 * plan.epsilon()
    held = epsilon(plan.holds("training"), plan.delta)
    assert held > epsilon(plan.events("training"), plan.delta)
    assert len(plan.holds("training")) == 2 * len(plan.events("training"))


def test_at_several_sites_it_costs_what_is_asked_too() -> None:
    asked = {"epsilon": 8.0, "sampling_rate": 0.1, "secure_sum": True, "max_sites_per_patient": 2}
    plan = PrivacyPlan.of(study(privacy=asked), "patient")
    assert 0.99 * 8 <= plan.epsilon() <= 8
    assert plan.noise_multiplier > PrivacyPlan.of(study(), "patient").noise_multiplier


def test_other_plans_are_as_they_were() -> None:
    both = PrivacyPlan.of(study(share="both"), "patient")
    assert (both.rounds, both.steps, both.gradient_size) == (2, 10, 0)
    assert not both.summed(Phase.TRAIN)
    assert both.digest() != PrivacyPlan.of(study(), "patient").digest()
    assert replace(both, gradient_size=0).digest() == both.digest()


@pytest.mark.parametrize("size", [28, 32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [4, 16])
def test_the_declared_size_of_the_discriminator_is_its_size(size: int, channels: int, width: int) -> None:
    data = {"kind": "npz", "path": "x", "classes": ["a", "b", "c"], "image_size": size, "channels": channels}
    asked = study(data=data, training={"discriminator_width": width})
    task = synthesis_of(make_task(asked, (channels, size, size), asked.data.classes))
    arrays = weights_of(task.make_discriminator())
    assert sum(array.size for array in arrays.values()) == asked.discriminator_size


def test_only_a_plan_of_joint_steps_gives_a_sum_and_only_for_its_discriminator(plan: PrivacyPlan) -> None:
    asked = study()
    task = synthesis_of(make_task(asked, (1, 28, 28), asked.data.classes))
    data = torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64), torch.arange(2)
    total = plan.gradient_sum(task.make_discriminator(), task.real_loss, *data)
    assert (total.dtype, total.shape) == (torch.int64, (plan.gradient_size,))
    wider = synthesis_of(
        make_task(study(training={"discriminator_width": 20}), (1, 28, 28), asked.data.classes)
    )
    with pytest.raises(ConfigError, match="gradient_size"):
        plan.gradient_sum(wider.make_discriminator(), task.real_loss, *data)
    for other in (PrivacyPlan.of(study(share="both"), "patient"), replace(plan, private=False)):
        with pytest.raises(ConfigError, match="gradient_size"):
            other.gradient_sum(task.make_discriminator(), task.real_loss, *data)


# The planner


def test_the_planner_offers_no_joint_steps_that_the_sites_would_refuse(plan: PrivacyPlan) -> None:
    held = epsilon([event.local for event in plan.holds("training")], plan.delta)

    def offered(**policy: Any) -> bool:
        asked = study(share="both", sites={"count": 3, **policy})
        (told,) = [line for line in advise(asked, asked.discriminator_size).reasons if "gradient)" in line]
        assert f"ε = {held:.3g} with all repeats" in told
        return "is offered" in told

    assert offered(local_epsilon=1.01 * held)
    assert not offered(local_epsilon=0.99 * held)
    assert offered(trust_secure_sum=False, epsilon_cap=1.01 * held)
    assert not offered(trust_secure_sum=False, epsilon_cap=0.99 * held)


def test_the_planner_offers_joint_steps_where_their_time_fits() -> None:
    def reasons(**changes: Any) -> str:
        asked = study(**changes)
        return "\n".join(advise(asked, asked.discriminator_size).reasons)

    assert "(share = gradient) is offered" in reasons(share="both")
    slow = reasons(share="both", rounds_time_limit=0.1)
    assert "each site's own full noise" in slow
    assert "(share = gradient) is not offered" in slow
    assert "each site's own" not in reasons()
    assert "(share = gradient) is offered: about" in reasons()
    assert "(share = gradient) is not offered: about" in reasons(rounds_time_limit=0.1)
    local = {"epsilon": 8.0, "sampling_rate": 0.1}
    assert "gradient)" not in reasons(share="both", privacy=local)


def test_the_planner_shows_less_noise_in_joint_steps() -> None:
    sizes = study().discriminator_size
    joint, own = (advise(study(share=share), sizes).of("refine", "secure") for share in ("gradient", "both"))
    assert joint is not None
    assert own is not None
    assert joint.step_noise is not None
    assert own.step_noise is not None
    sigma = joint.plan.event(Phase.TRAIN)
    assert joint.step_noise == pytest.approx(total_deviation(sigma, 3) / (3 * study().nominal_batch))
    expected = joint.plan.noise_multiplier / own.plan.noise_multiplier / math.sqrt(2)
    assert joint.step_noise / own.step_noise == pytest.approx(expected, rel=0.01)
    assert joint.round_ratio is not None
    assert joint.step_ratio is not None
    assert joint.round_ratio == pytest.approx(joint.step_ratio / math.sqrt(10))
