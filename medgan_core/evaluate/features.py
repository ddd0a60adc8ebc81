"""What an image is compared by: features of a convolution network with fixed random weights, nothing learned.

Such features rank blur, noise and the loss of modes as they should, without pretrained weights that know no
medical image (Fréchet distance with random features: Naeem et al. 2020, arXiv:2002.09797).
"""

import torch
from torch import Tensor
from torch.nn import functional, init

DIMENSIONS = 128
FEATURE_SEED = 20_020_979
WIDTHS = (32, 64, DIMENSIONS)
BATCH = 256


@torch.no_grad()
def features(images: Tensor) -> Tensor:
    """Random-convolution features [n, 128], float64, on the CPU, of images [n, c, h, w] in [-1, 1].

    Three orthogonal 3x3 convolutions of stride 2 with leaky ReLU, then the mean over positions: any c and,
    from 8 pixels on, any side. The weights depend on c alone.
    """
    layers = _random_layers(images.shape[1])
    parts = [_forward(part, layers) for part in images.cpu().float().split(BATCH)]
    return torch.cat(parts).double()


def _random_layers(channels: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(FEATURE_SEED)
    layers = []
    for inputs, outputs in zip((channels, *WIDTHS), WIDTHS, strict=False):
        weight = init.orthogonal_(torch.empty(outputs, inputs, 3, 3), gain=2**0.5, generator=generator)
        bound = (9 * inputs) ** -0.5
        layers.append((weight, torch.empty(outputs).uniform_(-bound, bound, generator=generator)))
    return layers


def _forward(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    for weight, bias in layers:
        x = functional.leaky_relu(functional.conv2d(x, weight, bias, stride=2, padding=1), 0.2)
    return x.mean(dim=(2, 3))


def standardized(reference: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """All of these features [n, d], in units of the mean and standard deviation of the first."""
    mean, deviation = reference.mean(dim=0), reference.std(dim=0).clamp(min=1e-6)
    return tuple((each - mean) / deviation for each in (reference, *others))


def shuffled_by_patient(owner: Tensor, generator: torch.Generator) -> Tensor:
    """An order [n] of images in which each patient of `owner` [n] is together and patients are shuffled."""
    patients, position = owner.cpu().unique(return_inverse=True)
    rank = torch.randperm(len(patients), generator=generator)
    return rank[position].argsort(stable=True)
