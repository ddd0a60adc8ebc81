"""Opacus' own way: a gradient of every weight for each image. The yardstick of tests and benchmarks alone."""

import warnings
from collections.abc import Callable

from opacus import GradSampleModule
from torch import Tensor, nn


class Hooked:
    """A network under Opacus' hooks, which are on during `per_image` alone."""

    def __init__(self, network: nn.Module) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._module = GradSampleModule(network, batch_first=True, loss_reduction="sum")
        self._module.disable_hooks()

    def per_image(self, losses: Callable[[nn.Module], Tensor]) -> list[Tensor]:
        """Gradients [n, …] of the trainable parameters, from `losses(network)` [n]."""
        self._module.enable_hooks()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook is firing")  # images need no gradient here
            losses(self._module).sum().backward()
        found = [p.grad_sample.detach() for p in self._module.parameters() if p.requires_grad]
        self._module.zero_grad(set_to_none=True)
        self._module.disable_hooks()
        return found

    def close(self) -> None:
        """Take the hooks off the network."""
        self._module.to_standard_module()
