"""A patient's image comes out of an open step, and nothing but the mean out of a private one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from medgan_core.gan.scores import psnr
from medgan_core.privacy.noise import SeededRandom
from simulations.attacks.canary import flat
from simulations.attacks.exposure import Present, Scene, Silence, patients_gradient, update, without_patients
from simulations.attacks.inversion import from_features, from_latents, from_samples, gradients
from tests.simulations.attacks.making import scene, site, smooth

PRIOR = smooth(60, seed=7)
MEAN = PRIOR.mean(0, keepdim=True)


def seen(of: Scene, noise: Any) -> list[Tensor]:
    there = site(1)
    return patients_gradient(of, update(of, there, Present(noise)), without_patients(of, there))


def decibels(image: Tensor) -> float:
    return float(psnr(image, site(1).training.images))


def test_the_last_layer_s_gradient_gives_the_image_away_where_nothing_protects_it() -> None:
    of = scene().without_privacy()
    assert decibels(MEAN) < 20
    assert decibels(from_features(of, seen(of, Silence()), 0, MEAN, 150)) > 30


@pytest.mark.parametrize("seed", range(3))
def test_with_privacy_no_attack_is_much_better_than_the_mean_image(seed: int) -> None:
    noisy, most = seen(scene(), SeededRandom(seed)), decibels(MEAN) + 1
    assert decibels(from_features(scene(), noisy, 0, MEAN, 50)) <= most
    assert decibels(from_samples(scene(), noisy, 0, PRIOR)) <= most


def test_clipping_without_noise_hides_nothing() -> None:
    clipped = seen(scene(), Silence())
    assert decibels(from_features(scene(), clipped, 0, MEAN, 150)) > 30


def test_the_search_among_samples_finds_the_right_one_without_noise() -> None:
    of, candidates = scene().without_privacy(), torch.cat([PRIOR, site(1).training.images])
    assert decibels(from_samples(of, seen(of, Silence()), 0, candidates)) > 40


def test_the_search_among_samples_ends_in_the_mean_where_noise_is_all_there_is() -> None:
    loud = replace(scene(), plan=replace(scene().plan, noise_multiplier=1e3))
    assert torch.allclose(from_samples(loud, seen(loud, SeededRandom(0)), 0, PRIOR), MEAN, atol=0.01)


def test_the_search_among_latents_turns_the_gradient_towards_what_was_seen() -> None:
    of, task = scene(8).without_privacy(), scene(8).task
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = task.make_generator().eval()
        latents = torch.randn(4, task.latent_size)
    target = flat(seen(of, Silence())).float()

    def agreement(steps: int) -> float:
        image = from_latents(of, seen(of, Silence()), 0, generator, latents, steps)
        return float(cosine_similarity(gradients(of, image, 0), target[None]))

    assert agreement(20) > agreement(0)
