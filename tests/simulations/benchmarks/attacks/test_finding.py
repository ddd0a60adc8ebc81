"""Joint steps of real workers: what comes of each site is noise, and only the sum means something."""

import numpy as np
import pytest

from medgan_core.gan.tasks.synthesis import synthesis
from medgan_core.privacy.grid import STEPS
from server.state import initial_state
from simulations.benchmarks.attacks.finding import joint_steps
from simulations.benchmarks.attacks.setting import Released
from tests.simulations.attacks.making import CARD, CLASSES, site
from tests.simulations.making import tiny_study


def test_masked_vectors_are_new_at_every_step_and_say_nothing_of_the_sum() -> None:
    names = [f"site-{number}" for number in range(1, 4)]
    study = tiny_study(sites__count=3, privacy__secure_sum=True, share="gradient")
    task = synthesis(study.training, study.mapping, CARD.image_shape, CLASSES)
    groups = initial_state(study, task, "run", names).groups
    released = Released(study, task, {**groups, "statistics": {}}, task.make_generator())
    steps = list(joint_steps(study, released, [site(6, seed, name) for seed, name in enumerate(names)], 2))
    assert len(steps) == 2
    for masked, total in steps:
        # three shares of what two have to be
        assert float(total.std()) == pytest.approx(4.0 * np.sqrt(3 / 2), rel=0.1)
        for words in masked:
            assert words.dtype == np.uint64
            # uniform over all 64 bits, as nothing but a mask is
            assert float((words >> np.uint64(63)).mean()) == pytest.approx(0.5, abs=0.1)
        assert not np.array_equal(np.sum(masked, axis=0).view(np.int64), np.rint(total * STEPS))
    assert not np.array_equal(steps[0][0][0], steps[1][0][0])
