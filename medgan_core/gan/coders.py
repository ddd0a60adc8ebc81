"""Networks between images and vectors that patients may teach: no layer of theirs mixes examples.

The DCGAN family (Radford, Metz, Chintala 2016, https://arxiv.org/abs/1511.06434) with the grids of
`networks.py`, for images of 28, 32, 64 and 128 pixels a side.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from medgan_core.gan.networks import norm_groups, upsamplings


class Encoder(nn.Module):
    """Images [b, c, s, s] to `outputs` numbers each, [b, o]; with one output it is a discriminator."""

    def __init__(self, channels: int, size: int, outputs: int, width: int, *, norm: bool) -> None:
        super().__init__()
        downs, base = upsamplings(size)
        layers: list[nn.Module] = []
        before = channels
        for level in range(downs):
            after = width * 2 ** min(level, 3)
            layers += [
                nn.Conv2d(before, after, 4, 2, 1),
                *([_norm(after)] if norm else []),
                nn.LeakyReLU(0.2),
            ]
            before = after
        layers += [nn.Conv2d(before, before, 3, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(before * base**2, outputs)

    def features(self, images: Tensor) -> Tensor:
        """What the last linear layer is given, [b, f, s', s']."""
        found: Tensor = self.layers(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Numbers [b, o]."""
        found: Tensor = self.head(self.features(images).flatten(1))
        return found


class Decoder(nn.Module):
    """Latents [b, z] to images [b, c, s, s] in [-1, 1]."""

    def __init__(self, latent_size: int, channels: int, size: int, width: int) -> None:
        super().__init__()
        ups, self.base = upsamplings(size)
        widths = [width * 2 ** min(ups - level, 3) for level in range(ups + 1)]
        self.first = nn.Linear(latent_size, widths[0] * self.base**2)
        self.first_norm = _norm(widths[0])
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1),
                nn.Upsample(scale_factor=2, mode="bilinear"),
                _norm(after),
            )
            for before, after in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """Images [b, c, s, s]."""
        hidden = self.first_norm(self.first(latent).unflatten(1, (-1, self.base, self.base)))
        for block in self.blocks:
            hidden = block(leaky_relu(hidden, 0.2))
        return torch.tanh(self.last(leaky_relu(hidden, 0.2)))


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(norm_groups(channels), channels)
