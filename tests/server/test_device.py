"""The coordinator's networks run on the device that its person chose, and end as they would on the CPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medgan_core.device import CPU
from medgan_core.errors import ConfigError
from medgan_core.messages import PROPORTIONS, Groups
from server.folder import CoordinatorFolder
from server.settings import Settings
from server.state import FederationState, Summed, next_request, server_step
from server.up import up
from tests.elsewhere import elsewhere
from tests.server.making import SITES, Federation, federation

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0
needs_gpu = pytest.mark.skipif(not GPUS, reason="torch sees no GPU on this machine")
FEDERATIONS = {
    "plain": federation(one_shot__iterations=25),  # directions are weighted after 20 steps
    "gated": federation(evaluation__gate=True),
}
JOINT = federation(
    share="gradient",
    privacy__mode="dp",
    privacy__secure_sum=True,
    privacy__noise_multiplier=5.0,
    privacy__one_shot_noise_multiplier=5.0,
    privacy__nominal_batch=2.0,
    training__discriminator_steps=3,
)


def ended(of: Federation, device: torch.device) -> FederationState:
    """All rounds with made-up answers."""
    state = of.state
    while next_request(of.study, of.plan, state) is not None:
        state = server_step(of.study, of.task, state, of.answers(state), device=device)
    return state


def joined(device: torch.device) -> FederationState:
    """All joint steps, by made-up sums."""
    statistics = {"embedding": np.ones((2, JOINT.study.feature_count + 1))}
    statistics |= {f"{PROPORTIONS}{site}": np.array([0.25, 0.75]) for site in SITES}
    state = replace(JOINT.state, round=1, groups={**JOINT.state.groups, "statistics": statistics})
    for number in range(JOINT.study.training_rounds):
        noisy = np.random.default_rng(number).normal(size=JOINT.study.discriminator_size)
        state = server_step(JOINT.study, JOINT.task, state, (), Summed(noisy, SITES, ()), device=device)
    return state


def arrays_of(groups: Groups) -> dict[str, Any]:
    """By group and name. Not those of classifiers: a GPU draws their dropout itself."""
    return {
        f"{group}.{name}": array
        for group, arrays in groups.items()
        for name, array in arrays.items()
        if not group.startswith("classifier")
    }


def check(here: FederationState, there: FederationState, tolerance: float) -> None:
    def known(groups: Groups) -> dict[str, Any]:
        return {
            f"{group}.{name}": array for group, arrays in groups.items() for name, array in arrays.items()
        }

    assert here.round == there.round
    ours, others = known(here.groups), known(there.groups)
    assert ours.keys() == others.keys()
    for name, array in ours.items():
        assert isinstance(others[name], np.ndarray), name
        assert others[name].dtype == array.dtype, name
        np.testing.assert_allclose(others[name], array, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", FEDERATIONS)
def test_a_whole_run_is_carried_by_its_device(name: str) -> None:
    """On any machine: nothing is left behind on the CPU, and every state is the same to the last bit."""
    here = ended(FEDERATIONS[name], CPU)
    with elsewhere() as device:
        there = ended(FEDERATIONS[name], device)
    check(here, there, tolerance=0.0)


def test_joint_steps_are_carried_by_their_device() -> None:
    here = joined(CPU)
    with elsewhere() as device:
        there = joined(device)
    check(here, there, tolerance=0.0)


@needs_gpu
@pytest.mark.parametrize("name", FEDERATIONS)
def test_a_gpu_changes_roundings_alone(name: str) -> None:
    here, there = (ended(FEDERATIONS[name], device) for device in (CPU, torch.device("cuda")))
    check(here, there, tolerance=2e-2)


@needs_gpu
def test_a_gpu_changes_roundings_of_joint_steps_alone() -> None:
    check(joined(CPU), joined(torch.device("cuda")), tolerance=2e-2)


def test_a_gpu_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    folder = CoordinatorFolder.create(tmp_path / "coordinator", Settings(device="cuda:99"))
    with pytest.raises(ConfigError, match=r"coordinator\.toml: device = 'cuda:99'.*cpu"):
        up(folder, lambda line: None)
