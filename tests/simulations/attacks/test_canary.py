"""A site with a pattern of its own points where the pattern does."""

import torch

from medgan_core.privacy.noise import SeededRandom
from simulations.attacks.canary import cosines, direction, flat
from simulations.attacks.exposure import Present, patients_gradient, update, without_patients
from simulations.attacks.planted import patch, plant
from tests.simulations.attacks.making import scene, site, smooth


def test_what_all_sites_have_in_common_counts_for_none() -> None:
    common, along = torch.full((6,), 100.0), torch.tensor([1.0, 0, 0, 0, 0, 0])
    near = cosines([common, common + along, common], along)
    assert int(near.argmax()) == 1
    assert float(near[1]) > 0.99


def test_the_guess_follows_the_sites_in_any_order() -> None:
    vectors = list(torch.randn(4, 9, generator=torch.Generator().manual_seed(0)))
    along = vectors[2]
    near = cosines(vectors, along)
    turned = cosines(vectors[::-1], along)
    assert torch.allclose(near, turned.flip(0))


def test_without_privacy_the_site_with_the_pattern_is_found() -> None:
    of, pattern = scene(8).without_privacy(), [patch(0)]
    along = direction(of, smooth(12, seed=9), torch.arange(12) % 2, pattern)
    sites = [site(8, seed, f"site-{seed}") for seed in range(1, 4)]
    for canary in range(3):
        there = [plant(one, None, pattern) if n == canary else one for n, one in enumerate(sites)]
        sent = [
            patients_gradient(of, update(of, one, Present(SeededRandom(0))), without_patients(of, one))
            for one in there
        ]
        assert int(cosines([flat(part) for part in sent], along).argmax()) == canary
