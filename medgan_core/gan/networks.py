"""Conditional generator and discriminator of the DCGAN family, for 28, 32, 64 and 128 pixels.

Radford, Metz, Chintala 2016, https://arxiv.org/abs/1511.06434. The discriminator sees patients and therefore
has no BatchNorm: each image's gradient must depend on that image alone.
"""

from itertools import pairwise
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, one_hot


class Generator(nn.Module):
    """Latent [b, z] and labels [b] to images [b, c, s, s] in [-1, 1]; z is `size_of_latent`.

    Its grids grow by interpolation and not by transposed convolutions, whose patterns
    (Odena, Dumoulin, Olah 2016, https://doi.org/10.23915/distill.00003) a private loss does not remove.
    Its BatchNorm sees fakes alone, and no running statistics leave it: in evaluation it normalises by
    statistics that `calibrate` collects from fakes.

    With `spatial_noise` above 0 each grid but the last has noise of its own added: one map of the latent, in
    learned strengths that begin there (Karras, Laine, Aila 2019, https://arxiv.org/abs/1812.04948, section
    3.2). Images of a class differ more by it, as real ones do, in ways that a private embedding hardly tells.
    """

    def __init__(
        self,
        classes: int,
        channels: int,
        size: int,
        latent_size: int,
        width: int,
        spatial_noise: float = 0.0,
    ) -> None:
        super().__init__()
        ups, self.base = upsamplings(size)
        self.classes, self.latent_size = classes, latent_size
        widths = [width * 2 ** min(ups - level, 3) for level in range(ups + 1)]
        self.first = nn.Linear(latent_size + classes, widths[0] * self.base**2)
        self.first_norm = nn.BatchNorm2d(widths[0])
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.BatchNorm2d(after),
            )
            for before, after in pairwise(widths)
        )
        begin = [torch.full((after, 1, 1), spatial_noise) for after in widths[:-1]] if spatial_noise else []
        self.strengths = nn.ParameterList(begin)
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        """Images [b, c, s, s]."""
        hot = one_hot(labels, self.classes).to(latent.dtype)
        whole, maps = latent[:, : self.latent_size], latent[:, self.latent_size :]
        hidden = self.first(torch.cat([whole, hot], dim=1)).unflatten(1, (-1, self.base, self.base))
        hidden = hidden.contiguous(memory_format=torch.channels_last)  # a tenth less time on a CPU
        hidden, maps = self._varied(self.first_norm(hidden), maps, 0)
        for level, block in enumerate(self.blocks, start=1):
            hidden, maps = self._varied(block(leaky_relu(hidden, 0.2)), maps, level)
        return torch.tanh(self.last(leaky_relu(hidden, 0.2)))

    def _varied(self, hidden: Tensor, maps: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """The grid with the first of these maps in it, and the maps that are left."""
        if level >= len(self.strengths):
            return hidden, maps
        height, width = hidden.shape[2:]
        noise, rest = maps[:, : height * width], maps[:, height * width :]
        return torch.addcmul(hidden, self.strengths[level], noise.unflatten(1, (1, height, width))), rest


class Discriminator(nn.Module):
    """Images [b, c, s, s] and labels [b] to one score each, [b]; the label enters as constant planes."""

    def __init__(self, classes: int, channels: int, size: int, width: int) -> None:
        super().__init__()
        downs, base = upsamplings(size)
        self.classes = classes
        layers: list[nn.Module] = []
        before = channels + classes
        for level in range(downs):
            after = width * 2 ** min(level, 3)
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
            before = after
        self.layers = nn.Sequential(*layers)
        self.score = nn.Linear(before * base**2, 1)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Scores [b], high for images taken to be real."""
        hot = one_hot(labels, self.classes).to(images.dtype)
        planes = hot[:, :, None, None].expand(-1, -1, *images.shape[2:])
        scores: Tensor = self.score(self.layers(torch.cat([images, planes], dim=1)).flatten(1)).squeeze(1)
        return scores


def size_of_latent(latent_size: int, size: int, spatial_noise: float) -> int:
    """How many numbers a generator draws an image from: its latent, and where there is noise, all maps."""
    ups, base = upsamplings(size)
    maps = sum((base * 2**level) ** 2 for level in range(ups))
    return latent_size + maps if spatial_noise else latent_size


def norm_groups(width: int) -> int:
    """How many groups the GroupNorm of a network of this width has: 4, or as many as divide both."""
    return gcd(4, width)


def upsamplings(size: int) -> tuple[int, int]:
    """How often a generator doubles its grid and the side of the first grid: 7 or 8 up to `size`."""
    ups, base = 0, size
    while base > 8:
        ups, base = ups + 1, base // 2
    return ups, base


@torch.no_grad()
def calibrate(generator: nn.Module, latent: Tensor, labels: Tensor) -> None:
    """Set BatchNorm's running statistics to those of these fakes, in place. Fakes alone: post-processing."""
    norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        generator.eval()
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    generator.train()
    for part, part_labels in zip(latent.split(256), labels.split(256), strict=True):
        generator(part, part_labels)
    generator.eval()
