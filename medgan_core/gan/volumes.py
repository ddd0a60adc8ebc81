"""Generator and discriminator of volumes: 3-D convolutions inside, slices in the channels outside.

Wu et al. 2016, "3D-GAN", https://arxiv.org/abs/1610.07584, with interpolation for growth as in `networks`.
One latent makes all slices at once, so that they belong to one patient that never was. No layer mixes
examples (GroupNorm: Wu and He 2018, https://arxiv.org/abs/1803.08494), so both networks may learn from
patients.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, one_hot

from medgan_core.gan.networks import norm_groups, upsamplings

Grid = tuple[int, int, int]


def grids(depth: int, side: int) -> tuple[Grid, ...]:
    """The grids (depth, height, width) from the first, of 7 or 8 pixels a side, to the volume's own."""
    ups, _ = upsamplings(side)
    return tuple((-(-depth // 2**n), side // 2**n, side // 2**n) for n in range(ups, -1, -1))


class VolumeGenerator(nn.Module):
    """Latent [b, z] and labels [b] to volumes [b, depth, s, s] in [-1, 1]."""

    def __init__(self, classes: int, depth: int, side: int, latent_size: int, width: int) -> None:
        super().__init__()
        self.classes, self.grids = classes, grids(depth, side)
        ups = len(self.grids) - 1
        widths = [width * 2 ** min(ups - level, 3) for level in range(ups + 1)]
        deep, high, wide = self.grids[0]
        self.first = nn.Linear(latent_size + classes, widths[0] * deep * high * wide)
        self.norms = nn.ModuleList(nn.GroupNorm(norm_groups(of), of) for of in widths)
        self.blocks = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths))
        self.last = nn.Conv3d(widths[-1], 1, 3, padding=1)

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        """Volumes [b, depth, s, s]."""
        hot = one_hot(labels, self.classes).to(latent.dtype)
        hidden = self.norms[0](self.first(torch.cat([latent, hot], dim=1)).unflatten(1, (-1, *self.grids[0])))
        for block, norm, grid in zip(self.blocks, self.norms[1:], self.grids[1:], strict=True):
            grown = interpolate(block(leaky_relu(hidden, 0.2)), size=grid, mode="trilinear")
            hidden = norm(grown)
        return torch.tanh(self.last(leaky_relu(hidden, 0.2))).squeeze(1)


class VolumeDiscriminator(nn.Module):
    """Volumes [b, depth, s, s] and labels [b] to one score each, [b]; the label is a constant channel."""

    def __init__(self, classes: int, depth: int, side: int, width: int) -> None:
        super().__init__()
        self.classes, steps = classes, grids(depth, side)[::-1]
        layers: list[nn.Module] = []
        before = 1 + classes
        for level in range(len(steps) - 1):
            after = width * 2 ** min(level, 3)
            # An odd kernel along the slices rounds half of them up: the last one counts, however many.
            layers += [nn.Conv3d(before, after, (3, 4, 4), 2, 1), nn.LeakyReLU(0.2)]
            before = after
        self.layers = nn.Sequential(*layers)
        deep, high, wide = steps[-1]
        self.score = nn.Linear(before * deep * high * wide, 1)

    def forward(self, volumes: Tensor, labels: Tensor) -> Tensor:
        """Scores [b], high for volumes taken to be real."""
        hot = one_hot(labels, self.classes).to(volumes.dtype)
        planes = hot[:, :, None, None, None].expand(-1, -1, *volumes.shape[1:])
        seen = torch.cat([volumes[:, None], planes], dim=1)
        scores: Tensor = self.score(self.layers(seen).flatten(1)).squeeze(1)
        return scores
