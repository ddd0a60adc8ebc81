"""The seam between a GAN task and everything else: a small frozen dataclass of functions.

A new task is one file under `tasks/` that fills in a `GanTask`, and one line in `tasks/__init__.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator as RandomGenerator
from torch import Tensor, nn

NetworkLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GanTask:
    """Networks and per-example losses of one task.

    `image_shape` is (channels, height, width). `real_loss(D, images, labels)`, `fake_loss(D, fakes, labels)`
    and `generator_loss(D, fakes, labels)` give one value per example, [b]. `private_networks` names the
    networks whose gradients depend on patients: they go through the private engine and may hold no layer
    that mixes examples. `rejects(D, fakes, labels)` [b] says which fakes D takes for fakes.
    `sample(G, labels, random)` draws fakes [b, c, h, w] in [-1, 1] from public labels; G takes `latent_size`
    numbers for each.
    """

    name: str
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    private_networks: frozenset[str]
    make_generator: Callable[[], nn.Module]
    make_discriminator: Callable[[], nn.Module]
    real_loss: NetworkLoss
    fake_loss: NetworkLoss
    generator_loss: NetworkLoss
    rejects: NetworkLoss
    sample: Callable[[nn.Module, Tensor, RandomGenerator], Tensor]
    latent_size: int
