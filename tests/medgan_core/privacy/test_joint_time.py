"""How long joint steps take is said before, and decides whether they are offered."""

import pytest

from medgan_core.errors import ConfigError
from medgan_core.privacy.joint_time import GAUSSIANS_PER_SECOND, check_time, joint_seconds
from medgan_core.privacy.plan import PrivacyPlan
from tests.medgan_core.privacy.test_plan_joint import study


def test_the_prediction_counts_steps_sites_and_weights() -> None:
    asked = study()
    seconds = joint_seconds(asked)
    drawn = 2 * 10 * 3 * asked.discriminator_size / GAUSSIANS_PER_SECOND
    assert drawn < seconds < drawn + 2 * 10 * (3 + 1)
    assert joint_seconds(study(rounds=4)) == pytest.approx(2 * seconds)
    assert joint_seconds(study(sites={"count": 6})) > 1.8 * seconds
    assert joint_seconds(study(training={"discriminator_steps": 10, "discriminator_width": 64})) > 3 * seconds


def test_a_study_that_would_take_too_long_is_refused_with_the_prediction() -> None:
    seconds = joint_seconds(study())
    check_time(study(rounds_time_limit=1.01 * seconds))
    with pytest.raises(ConfigError, match=rf"about {seconds:.0f} s.*each site's own full noise") as caught:
        check_time(study(rounds_time_limit=0.99 * seconds))
    assert "rounds_time_limit" in str(caught.value)


def test_a_plan_is_the_same_whatever_the_limit() -> None:
    """So that a release verifies on a machine for which the prediction would be another."""
    tight, loose = (PrivacyPlan.of(study(rounds_time_limit=limit), "patient") for limit in (1e-3, 1e6))
    assert tight == loose


def test_other_studies_have_no_limit() -> None:
    check_time(study(share="both", rounds_time_limit=1e-3))
