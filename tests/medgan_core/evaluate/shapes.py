"""Simple images with two kinds of shape, made from a seed: what the tests of evaluation look at."""

import torch
from torch import Tensor

from medgan_core.data.source import Card, SiteData

CARD = Card("shapes", ("tall", "wide"), (1, 28, 28), "none", "patient", public=True)


def shapes(count: int, seed: int, side: int = 28, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Tall (0) and wide (1) ellipses of random place, size and brightness on noisy ground: images, labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    x, y, size, light = torch.rand(4, count, 1, 1, generator=generator)
    axis = torch.linspace(-1, 1, side)
    across, down = (axis[None, None] - (x - 0.5)).abs(), (axis[None, :, None] - (y - 0.5)).abs()
    long, short = torch.where(labels[:, None, None] == 0, 1, 2), torch.where(labels[:, None, None] == 0, 2, 1)
    distance = ((across * short) ** 2 + (down * long) ** 2).sqrt()
    inside = torch.sigmoid((0.35 + 0.4 * size - distance) * side)
    ground = 0.02 * torch.randn(count, side, side, generator=generator)
    images = (-0.8 + inside * (0.6 + light) + ground).clamp(-1, 1)
    return images[:, None].repeat(1, channels, 1, 1), labels


def site_of_shapes(patients: int, images_each: int, seed: int) -> SiteData:
    images, labels = shapes(patients * images_each, seed)
    owner = torch.arange(patients).repeat_interleave(images_each)
    return SiteData(CARD, tuple(f"{seed}-{i}" for i in range(patients)), owner, images, labels)
