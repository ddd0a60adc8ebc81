"""The attack that has the generator's weights: how well can it draw an image, from the best latent found?"""

import torch
from torch import Tensor, nn, optim

from medgan_core.evaluate.attacks.references import References, at_once
from medgan_core.evaluate.attacks.views import Score, less_mirrored, small
from medgan_core.gan.task import SynthesisTask

MOST_STEPS, LEAST_STEPS, RATE = 8, 2, 0.2
_NUMBERS = 2**16


def inversion(task: SynthesisTask, generator: nn.Module, references: References) -> Score:
    """How much nearer the image drawn again is than the median synthetic one: the logarithm of their ratio.

    The latent begins at that of the nearest synthetic image and takes eight steps, fewer of large images,
    whose steps take long (Chen et al. 2020, https://arxiv.org/abs/1909.03935, section 4.4; Hilprecht et al.
    2019).
    """

    def score(images: Tensor, labels: Tensor) -> Tensor:
        parts = zip(images.split(at_once(task)), labels.split(at_once(task)), strict=True)
        return torch.cat([_ratio(generator, references, *part) for part in parts])

    return less_mirrored(score)


def _ratio(generator: nn.Module, references: References, images: Tensor, labels: Tensor) -> Tensor:
    distances = references.distances(small(images), labels)
    latent = references.latents[labels, distances.argmin(dim=1)].clone().requires_grad_()
    with torch.enable_grad():
        again = _drawn_again(generator, latent, images, labels)
    left = (small(again) - small(images)).norm(dim=1).clamp_min(1e-6)
    ratio: Tensor = distances.median(dim=1).values / left
    return ratio.log()


def _steps(images: Tensor) -> int:
    return max(LEAST_STEPS, min(MOST_STEPS, _NUMBERS // images.shape[1:].numel()))


def _drawn_again(generator: nn.Module, latent: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """What the generator draws from latents that are led towards these images."""
    rule = optim.Adam([latent], RATE, betas=(0.9, 0.9))
    for _ in range(_steps(images)):
        # A sum and not a mean: no image's steps depend on how many others are there.
        loss = (generator(latent, labels).float() - images).square().flatten(1).mean(dim=1).sum()
        (latent.grad,) = torch.autograd.grad(loss, latent)
        rule.step()
    with torch.no_grad():
        again: Tensor = generator(latent, labels).float()
    return again
