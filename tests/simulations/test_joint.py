"""Joint steps from study to release: the pooled trajectory, the charges, an interruption, what is told."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, optim

from client.site import SiteWorker
from medgan_core.adversarial import anchor_of, mean_fake_loss
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.errors import BudgetError, ConfigError, QuorumError
from medgan_core.gan.steps import balanced_labels, generator_step
from medgan_core.gan.task import synthesis_of
from medgan_core.gan.tasks import make_task
from medgan_core.messages import Groups, Phase, Request, Stage
from medgan_core.privacy.engine import PrivateOptimizer
from medgan_core.privacy.noise import SeededRandom
from medgan_core.privacy.noise_watch import NoiseReading
from medgan_core.record import RunFolder, load_groups, read_json
from medgan_core.release.verify import verify_release
from medgan_core.seeds import Seeds
from medgan_core.tensors import load, weights_of
from simulations.course import resume_run, run_study
from simulations.hospitals import Launch, open_sites, pooled
from tests.simulations.making import Seeded, entries, tiny_study, write_set

JOINT = {"sites__count": 3, "privacy__secure_sum": True, "share": "gradient", "evaluation__epsilon": 0.5}
STEPS = 2


def study(**changes: Any) -> Study:
    return tiny_study(**JOINT | changes)


class Still(SeededRandom):
    """No noise, and every patient in every sample."""

    def uniform(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.float64)

    def normal(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.float64)

    def discrete(self, count: int, deviation: float) -> NDArray[np.int64]:
        return np.zeros(count, np.int64)


def still(site: str, round_number: int) -> Still:
    return Still(0)


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    return Launch(data=str(write_set(tmp_path_factory.mktemp("data"), patients=60)))


@pytest.fixture(scope="module")
def run(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run_study(study(), tmp_path_factory.mktemp("runs"), launch, random_for=Seeded(3))


# The same as one pooled site


def by_one_pooled_site(asked: Study, sites: tuple[Site, ...], start: Groups, steps: int) -> Groups:
    """FedSGD written out: one optimiser, all patients of all sites, and the generator after each step."""
    task = synthesis_of(make_task(asked, (1, 28, 28), asked.data.classes))
    data, _ = pooled(sites, sites[0].training.card)
    generator, discriminator = task.make_generator(), task.make_discriminator()
    load(generator, start["generator"])
    load(discriminator, start["discriminator"])
    training = asked.training
    of_real = PrivateOptimizer(
        discriminator,
        optim.SGD(discriminator.parameters(), training.discriminator_learning_rate, momentum=0.9),
        clip_norm=asked.privacy.clip_norm,
        noise_multiplier=1.0,
        nominal_batch=len(sites) * asked.nominal_batch,
        random=Still(0),
    )
    of_fakes = optim.Adam(generator.parameters(), training.generator_learning_rate, betas=(0.5, 0.999))
    statistics, seeds = start["statistics"], Seeds(asked.seed)
    for number in range(1, steps + 1):
        falls = 1 - 0.8 * (number - 1) / (asked.training_rounds - 1)
        of_real.rule.param_groups[0]["lr"] = falls * training.discriminator_learning_rate
        of_fakes.param_groups[0]["lr"] = falls * training.generator_learning_rate
        public = seeds.child("joint", number).generator()
        shares = torch.tensor(statistics[f"proportions.{sites[0].name}"])
        labels = torch.multinomial(shares, training.batch, replacement=True, generator=public)
        with torch.no_grad():
            fakes = task.sample(generator, labels, public)
        of_real.step(
            task.real_loss, data.images, data.labels, data.owner, partial(mean_fake_loss, task, fakes, labels)
        )
        generator_step(
            task,
            generator,
            discriminator,
            of_fakes,
            balanced_labels(training.batch, 2),
            public,
            anchor=anchor_of(asked, task, statistics, seeds),
            anchor_weight=training.anchor_weight,
        )
    return {"discriminator": weights_of(discriminator), "generator": weights_of(generator)}


def test_without_noise_the_sites_together_are_one_pooled_site(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[int, Groups] = {}
    save = RunFolder.save_state

    def keeping(self: RunFolder, number: int, groups: Groups, header: Any) -> None:
        kept[number] = groups
        save(self, number, groups, header)

    monkeypatch.setattr(RunFolder, "save_state", keeping)
    monkeypatch.setattr(NoiseReading, "check", lambda self: None)  # it would stop sites without noise
    asked = study(training__discriminator_steps=5)
    done = run_study(asked, tmp_path, launch, random_for=still)
    for steps in (1, 5):
        sites = open_sites(asked, done, launch)
        expected = by_one_pooled_site(asked, sites, kept[1], steps)
        found = kept[steps + 1]
        for network in ("discriminator", "generator"):
            for name, array in expected[network].items():
                assert np.allclose(found[network][name], array, rtol=0, atol=2e-5), (steps, network, name)
                assert not np.array_equal(array, kept[1][network][name])


# Charges


def test_every_step_has_a_receipt_of_every_site_and_the_release_verifies(run: RunFolder) -> None:
    receipts = read_json(run.release / "receipts.json")
    steps = [r for r in receipts if r["phase"] == Phase.TRAIN]
    assert sorted((r["round"], r["site"]) for r in steps) == [
        (n, f"site-{k}") for n in range(1, STEPS + 1) for k in (1, 2, 3)
    ]
    assert all(r["event"]["shares"] == 2 and r["event"]["sampling_rate"] == 0.5 for r in steps)
    assert all(r["local_event"]["shares"] == 1 and r["local_spent"] > r["spent"] for r in steps)
    told, verified = read_json(run.path / "metrics.json"), verify_release(run.release)
    assert (told["epsilon"], told["local_epsilon"]) == (verified.epsilon, verified.local_epsilon)
    assert entries(run.path).count("charge") == STEPS + 3


def test_card_and_report_say_that_the_steps_were_summed(run: RunFolder) -> None:
    card = (run.release / "card.md").read_text()
    assert "one-shot query, gate, evaluation and training steps" in card
    assert "every site adds the full noise" not in card
    assert "sampling (Mironov, Talwar, Zhang 2019)" in card
    page = (run.path / "report.html").read_text()
    assert "one sum of clipped gradients" in page
    assert "every site adds the full noise" not in page
    assert "every training step" in page


def test_no_gradient_of_a_site_is_in_what_the_coordinator_keeps(run: RunFolder) -> None:
    kept = run.latest_state()
    assert kept is not None
    assert not any("gradient" in name for arrays in kept[0].values() for name in arrays)
    for site in (1, 2, 3):
        for path in (run.site(f"site-{site}") / "sealed").glob("*train*"):
            assert set(load_groups(path)[0]) == {"masked"}


def test_a_cap_below_what_the_steps_and_their_repeats_cost_is_refused(
    tmp_path: Path, launch: Launch, run: RunFolder
) -> None:
    spent = verify_release(run.release).epsilon
    with pytest.raises(BudgetError, match="cap"):
        run_study(study(sites__epsilon_cap=1.01 * spent), tmp_path, launch)


def test_a_study_beyond_its_time_is_refused_before_anything_is_made(tmp_path: Path, launch: Launch) -> None:
    with pytest.raises(ConfigError, match=r"rounds would take about \d+ s, the limit is 0\.1 s"):
        run_study(study(rounds_time_limit=0.1), tmp_path, launch)
    assert not list(tmp_path.glob("*/ledger.json"))


# Interrupted


class StopError(Exception):
    """The end of a process, from within."""


def stop_at(monkeypatch: pytest.MonkeyPatch, stage: Stage, site: str, number: int = 2) -> None:
    real = SiteWorker.take_part

    def wrapped(self: SiteWorker, request: Request, kept: Any) -> Any:
        asked = request.secure is not None and request.secure.stage is stage
        if asked and request.round == number and self.site.name == site:
            raise StopError
        return real(self, request, kept)

    monkeypatch.setattr(SiteWorker, "take_part", wrapped)


@pytest.mark.parametrize(
    ("stage", "site", "repeated"),
    [(Stage.ADVERTISE, "site-1", 0), (Stage.MASK, "site-1", 0), (Stage.REVEAL, "site-3", 3)],
)
def test_a_resumed_run_spends_the_same_but_for_a_sum_whose_vectors_had_left(
    tmp_path: Path,
    launch: Launch,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    stage: Stage,
    site: str,
    repeated: int,
) -> None:
    stop_at(monkeypatch, stage, site)
    with pytest.raises(StopError):
        run_study(study(), tmp_path, launch, random_for=Seeded(3))
    monkeypatch.undo()
    [path] = list(tmp_path.iterdir())
    resumed = verify_release(resume_run(path, random_for=Seeded(4)).release)
    whole = verify_release(run.release)
    receipts = read_json(path / "release" / "receipts.json")
    assert sum(r["repeat"] for r in receipts) == repeated
    assert (resumed.epsilon == whole.epsilon) == (not repeated)
    assert resumed.epsilon >= whole.epsilon
    rounds = [json.loads(line)["round"] for line in (path / "rounds.jsonl").read_text().splitlines()]
    assert rounds == list(range(STEPS + 3))


def test_a_step_that_failed_is_repeated_as_often_as_the_study_allows(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SiteWorker.take_part

    def down(self: SiteWorker, request: Request, kept: Any) -> Any:
        if request.secure and request.secure.stage is Stage.REVEAL and request.round == 1:
            raise ConfigError("x", 1, "a machine that works")
        return real(self, request, kept)

    monkeypatch.setattr(SiteWorker, "take_part", down)
    with pytest.raises(QuorumError, match="stage reveal"):
        run_study(study(privacy__max_repeats=0), tmp_path, launch, random_for=Seeded(3))
    monkeypatch.undo()
    [path] = list(tmp_path.iterdir())
    with pytest.raises(QuorumError, match=r"stage mask.*max_repeats = 0"):
        resume_run(path, random_for=Seeded(4))
