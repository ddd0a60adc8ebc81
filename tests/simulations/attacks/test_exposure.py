"""What the coordinator reads out of an update is what patients did in the product's own step."""

import pytest
import torch

from medgan_core.privacy.noise import SeededRandom
from simulations.attacks.canary import flat
from simulations.attacks.exposure import Present, Silence, patients_gradient, update, without_patients
from simulations.attacks.inversion import gradients
from tests.simulations.attacks.making import scene, site


def read(of, there, random):  # type: ignore[no-untyped-def]
    return flat(patients_gradient(of, update(of, there, random), without_patients(of, there)))


def test_without_privacy_it_is_the_mean_gradient_of_the_patients() -> None:
    open_scene, there = scene().without_privacy(), site(4)
    data = there.training
    each = [gradients(open_scene, data.images[data.labels == label], label) for label in (0, 1)]
    mean = torch.cat(each).mean(0)
    assert torch.allclose(read(open_scene, there, Present(Silence())).float(), mean, atol=1e-4)


def test_with_privacy_it_is_the_clipped_gradient_and_the_noise_of_the_plan() -> None:
    there = site(1)
    quiet = read(scene(), there, Present(Silence()))
    own = gradients(scene(), there.training.images, 0)[0]
    assert own.norm() > scene().plan.clip_norm
    assert float(quiet.norm()) == pytest.approx(scene().plan.clip_norm, rel=1e-3)
    noise = read(scene(), there, Present(SeededRandom(3))) - quiet
    assert float(noise.std()) == pytest.approx(scene().deviation, rel=0.05)
    assert scene().deviation == 4.0


def test_without_patients_there_is_nothing_to_read() -> None:
    assert float(read(scene(), site(3), NobodyComes()).abs().max()) < 1e-6


def test_only_the_name_of_a_site_counts_for_what_the_coordinator_reckons() -> None:
    ours, others = (flat(without_patients(scene(), site(count, seed=count))) for count in (1, 5))
    assert torch.equal(ours, others)


def test_the_first_patients_are_in_every_sample_and_the_others_by_their_coins() -> None:
    coins = SeededRandom(0).uniform(5)
    present = Present(SeededRandom(0), 2).uniform(5)
    assert present[:2].tolist() == [0.0, 0.0]
    assert torch.equal(present[2:], coins[2:])
    assert not Present(SeededRandom(0)).uniform(5).any()


class NobodyComes(Silence):
    def uniform(self, count: int) -> torch.Tensor:
        return torch.ones(count, dtype=torch.float64)
