"""Conditional generator and discriminator of the DCGAN family, for 28, 32, 64 and 128 pixels.

Radford, Metz, Chintala 2016, https://arxiv.org/abs/1511.06434. The discriminator sees patients and therefore
has no BatchNorm: each image's gradient must depend on that image alone.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, one_hot


class Generator(nn.Module):
    """Latent [b, z] and labels [b] to images [b, c, s, s] in [-1, 1].

    Its grids grow by interpolation and not by transposed convolutions, whose patterns
    (Odena, Dumoulin, Olah 2016, https://doi.org/10.23915/distill.00003) a private loss does not remove.
    Its BatchNorm sees fakes alone, and no running statistics leave it: in evaluation it normalises by
    statistics that `calibrate` collects from fakes.
    """

    def __init__(self, classes: int, channels: int, size: int, latent_size: int, width: int) -> None:
        super().__init__()
        ups, self.base = upsamplings(size)
        self.classes = classes
        widths = [width * 2 ** min(ups - level, 3) for level in range(ups + 1)]
        self.first = nn.Linear(latent_size + classes, widths[0] * self.base**2)
        self.first_norm = nn.BatchNorm2d(widths[0])
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            blocks += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        """Images [b, c, s, s]."""
        hot = one_hot(labels, self.classes).to(latent.dtype)
        hidden = self.first(torch.cat([latent, hot], dim=1)).unflatten(1, (-1, self.base, self.base))
        hidden = leaky_relu(self.first_norm(hidden), 0.2)
        return torch.tanh(self.last(self.blocks(hidden)))


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
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    generator.train()
    for part, part_labels in zip(latent.split(256), labels.split(256), strict=True):
        generator(part, part_labels)
    generator.eval()
