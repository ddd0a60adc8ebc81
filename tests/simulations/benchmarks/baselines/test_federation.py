"""The federation under all methods: patients joined or apart, every step taken, every query at full noise."""

from collections import Counter
from math import inf

import pytest
import torch
from torch import Tensor

from medgan_core.config import Study
from medgan_core.errors import ConfigError
from medgan_core.messages import Phase
from medgan_core.privacy.accounting import epsilon
from medgan_core.privacy.noise import SecretRandom, SeededRandom
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.seeds import Seeds
from simulations.benchmarks.baselines.dp_gan import FROM_SCRATCH, sampling_rate
from simulations.benchmarks.baselines.federation import at_one_site, federation
from simulations.benchmarks.baselines.method import changed
from tests.simulations.benchmarks.making import SMALL, silent, small_sites, small_study


class Counted:
    """Counts what is drawn at each site and round."""

    def __init__(self) -> None:
        self.noise = Counter[str]()
        self.coins = Counter[str]()

    def __call__(self, site: str, round_number: int) -> SecretRandom:
        counted = self

        class Source(SeededRandom):
            def normal(self, count: int) -> Tensor:
                counted.noise[site] += 1
                return super().normal(count)

            def uniform(self, count: int) -> Tensor:
                counted.coins[site] += 1
                return super().uniform(count)

        return Source(round_number)


def test_one_site_has_all_patients_and_says_so() -> None:
    study, (site,) = at_one_site(small_study(privacy__secure_sum=True), small_sites())
    assert (study.sites.count, study.sites.nominal_patients) == (1, 3 * 20)
    assert not study.privacy.secure_sum
    patients = {patient for one in small_sites() for patient in one.training.patients}
    assert set(site.training.patients) == patients
    assert len(site.training) == len(patients)


@pytest.mark.parametrize(("name", "sites"), [("dp-gan", 1), ("fedavg-local", 3)])
def test_each_step_of_each_site_has_its_own_coins_and_noise(name: str, sites: int) -> None:
    random = Counted()
    SMALL[name](small_study(), small_sites(), Seeds(0), random)
    assert set(random.coins.values()) == {4}  # each step
    assert set(random.noise.values()) == {1 + 4 + 1}  # the counts, the steps, the evaluation
    assert len(random.coins) == len(random.noise) == sites


def test_dp_merf_asks_every_site_once_with_the_whole_epsilon() -> None:
    random = Counted()
    assert 7.9 < SMALL["dp-merf"](small_study(), small_sites(), Seeds(0), random).epsilon <= 8
    assert set(random.noise.values()) == {2}  # the embedding, the evaluation
    assert not random.coins


def test_from_scratch_the_query_before_the_rounds_counts_classes_and_tells_little() -> None:
    study = changed(small_study(), {**FROM_SCRATCH, "rounds": 0})
    done = federation(changed(study, {"privacy.mode": "off"}), small_sites(), silent)
    counts = done.state.history[0]["noisy_counts"]
    held = sum(len(site.training) for site in small_sites())
    assert sum(counts) == pytest.approx(held, rel=1e-3)
    assert done.epsilon == inf
    steps = {"rounds": 2, "training.discriminator_steps": 2, "privacy.sampling_rate": 0.6}
    plan = PrivacyPlan.of(changed(small_study(), {**FROM_SCRATCH, **steps}), "patient")
    assert epsilon([plan.event(Phase.ONE_SHOT)], plan.delta) <= 0.05 * 8
    assert 7 < plan.epsilon() <= 8


def test_a_generator_from_scratch_starts_untouched() -> None:
    study = changed(small_study(privacy__mode="off"), {**FROM_SCRATCH, "rounds": 0})
    first, second = (federation(study, small_sites(), silent).state.groups["generator"] for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)
    other = federation(changed(study, {"one_shot.iterations": 1}), small_sites(), silent)
    assert any((first[name] != other.state.groups["generator"][name]).any() for name in first)


def test_a_batch_is_a_public_share_of_the_nominal_patients() -> None:
    study = small_study(sites__nominal_patients=50)
    assert sampling_rate(study, 10) == pytest.approx(0.2)
    assert sampling_rate(study, 80) == 1.0


def test_a_setting_that_no_study_has_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"training\.speed"):
        changed(small_study(), {"training.speed": 1})


@pytest.mark.parametrize("gate", [True, False])
def test_the_gate_has_all_the_images_that_the_study_asks_for(gate: bool) -> None:
    kept = [
        federation(
            small_study(privacy__mode="off", evaluation__synthetic_images=n, evaluation__gate=gate),
            small_sites(),
            silent,
        ).state.groups["classifier"]
        for n in (16, 64)
    ]
    assert all((kept[0][name] == kept[1][name]).all() for name in kept[0]) is not gate


def test_a_strategy_that_is_left_open_is_the_planners_and_never_a_baselines() -> None:
    made = federation(with_noise("auto"), small_sites(), silent)  # few patients: no rounds are recommended
    assert [entry["phase"] for entry in made.state.history] == ["one_shot", "evaluate"]
    for strategy in ("auto", "one_shot"):
        random = Counted()
        SMALL["dp-gan"](with_noise(strategy), small_sites(), Seeds(0), random)
        assert set(random.coins.values()) == {4}
    for name in ("medgan-one-shot", "dp-merf"):
        random = Counted()
        SMALL[name](with_noise("auto"), small_sites(), Seeds(0), random)
        assert not random.coins


def with_noise(strategy: str) -> Study:
    """A study of this strategy whose noise need not be searched for."""
    noise = {"privacy__noise_multiplier": 4.0, "privacy__one_shot_noise_multiplier": 2.0}
    return small_study(strategy=strategy, **noise)


def test_the_inner_judgement_changes_nothing_of_the_generator() -> None:
    few, many = (
        federation(small_study(rounds=0, evaluation__synthetic_images=n), small_sites(), silent)
        for n in (16, 32)
    )
    names = few.state.groups["release"]
    assert all(
        torch.equal(torch.tensor(names[k]), torch.tensor(many.state.groups["release"][k])) for k in names
    )
