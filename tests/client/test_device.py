"""A site trains on the device that its person chose; what leaves is the same kind from every device."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client import daemon
from client.round import local_round, noisy_words
from client.site import SiteWorker
from client.site_file import parse_site_file
from client.speed import default_study, steps_per_second
from medgan_core.device import CPU, choose
from medgan_core.errors import ConfigError
from medgan_core.gan.tasks import make_task
from medgan_core.messages import Groups, Phase
from medgan_core.privacy.noise import SeededRandom
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.seeds import Seeds
from tests.client import sums
from tests.client.making import coordinator, hospital, opened, request
from tests.client.sites import configure, make_site, trainer
from tests.elsewhere import elsewhere

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0
needs_gpu = pytest.mark.skipif(not GPUS, reason="torch sees no GPU on this machine")


@pytest.mark.parametrize("name", ["cuda:99", *([] if GPUS else ["cuda"])])
def test_a_gpu_that_is_not_there_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = make_site(tmp_path / "site", trainer__device=f'"{name}"')
    for refused in (lambda: trainer(folder), lambda: daemon.run(folder.path)):
        with pytest.raises(ConfigError, match=rf"trainer\.device = '{name}'.*cpu"):
            refused()
    configure(folder, trainer__device='"cpu"')
    with trainer(folder) as desk:  # the refusal left the folder free
        assert desk.workshop.device == CPU


@given(name=st.sampled_from(["", "gpu", "cuda:", "cuda:-1", "CPU", "meta", "cuda:1000", "auto "]))
def test_only_known_devices_may_be_named(name: str) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.device"):
        parse_site_file({"name": "north", "trainer": {"device": name}})


def test_a_worker_of_the_trainer_trains_on_its_device(tmp_path: Path) -> None:
    with trainer(make_site(tmp_path / "site")) as desk:
        assert desk.workshop.device == choose("auto", "device")
    with opened(tmp_path) as other:
        assert isinstance(other.worker, SiteWorker)
        assert other.worker.device == CPU


def answered(number: int, device: torch.device, share: str) -> Groups:
    """What leaves and what is kept in a round; where the discriminator stays, the second one in turn."""
    of, asked = coordinator(share), request(number, share)
    task, plan = make_task(of.study, (1, 28, 28), ("a", "b")), PrivacyPlan.of(of.study, "patient")
    seeds = Seeds(of.study.seed)
    local: Groups = {}
    if share == "generator" and asked.phase is Phase.TRAIN:  # what is kept at the site goes on as well
        local = local_round(of.study, task, plan, hospital(), asked, {}, seeds, SeededRandom(1), device).local
    result = local_round(of.study, task, plan, hospital(), asked, local, seeds, SeededRandom(number), device)
    return {**result.groups, **result.local}


both_shares = pytest.mark.parametrize("share", ["both", "generator"])


def check(here: Groups, there: Groups, tolerance: float) -> None:
    """What leaves is numpy, of the same names, shapes and types, and of the same values."""
    assert here.keys() == there.keys()
    for group, arrays in here.items():
        assert arrays.keys() == there[group].keys()
        for name, array in arrays.items():
            assert isinstance(there[group][name], np.ndarray)
            assert there[group][name].dtype == array.dtype
            np.testing.assert_allclose(there[group][name], array, rtol=0, atol=tolerance)


def test_a_sum_of_gradients_is_carried_by_its_device() -> None:
    of = sums.coordinator(share="gradient", training__discriminator_steps=3)
    statistics = {"embedding": np.ones((2, of.study.feature_count + 1))}
    state = replace(of.state, round=1, groups={**of.state.groups, "statistics": statistics})
    asked = of.request(state)
    site, seeds = sums.hospital("site-1"), Seeds(of.study.seed)
    here = noisy_words(of.study, of.task, of.plan, site, asked, seeds, SeededRandom(3))
    with elsewhere() as device:
        there = noisy_words(of.study, of.task, of.plan, site, asked, seeds, SeededRandom(3), device)
    np.testing.assert_array_equal(here, there)


def test_the_device_is_measured_where_it_is() -> None:
    with elsewhere() as device:
        assert steps_per_second(default_study(), seconds=0.0, device=device) == 0


def test_what_is_left_behind_is_noticed() -> None:
    with elsewhere() as device, pytest.raises(RuntimeError, match="two devices"):
        torch.ones(2, device=device) + torch.ones(2)


@both_shares
def test_a_whole_round_is_carried_by_its_device(share: str) -> None:
    """On any machine: nothing is left behind on the CPU, and what leaves is the same to the last bit."""
    for number in range(coordinator(share).study.training_rounds + 3):
        here = answered(number, CPU, share)
        with elsewhere() as device:
            there = answered(number, device, share)
        check(here, there, tolerance=0.0)


@needs_gpu
@both_shares
def test_a_gpu_changes_roundings_alone(share: str) -> None:
    for number in range(coordinator(share).study.training_rounds + 3):
        here, there = (answered(number, device, share) for device in (CPU, torch.device("cuda")))
        check(here, there, tolerance=2e-2)
