"""Networks to the arrays that travel, and back."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from medgan_core.errors import IntegrityError
from medgan_core.gan.task import GanTask
from medgan_core.messages import Array, Arrays
from medgan_core.seeds import Seeds


def weights_of(network: nn.Module) -> dict[str, Array]:
    """Copies of the trainable parameters; BatchNorm's running statistics do not travel."""
    return {name: np.array(p.detach().cpu().numpy(), order="C") for name, p in network.named_parameters()}


def state_of(network: nn.Module) -> dict[str, Array]:
    """Copies of parameters and buffers: all that a finished network needs."""
    return {name: np.array(t.detach().cpu().numpy(), order="C") for name, t in network.state_dict().items()}


def load(network: nn.Module, arrays: Arrays) -> None:
    """Put arrays into the parameters and buffers of the same names, in place.

    Buffers may be missing. Raises IntegrityError where the arrays do not fit: then nothing was changed.
    """
    known = network.state_dict()
    missing = {name for name, _ in network.named_parameters()} - arrays.keys()
    wrong = {n for n, a in arrays.items() if n not in known or tuple(a.shape) != tuple(known[n].shape)}
    if missing or wrong:
        names = ", ".join(sorted(missing | wrong))
        raise IntegrityError(
            f"weights do not fit {type(network).__name__}: missing, unknown or misshapen: {names}"
        )
    network.load_state_dict(tensors(arrays), strict=False)


def tensors(arrays: Arrays) -> Mapping[str, Tensor]:
    """Arrays as tensors that share no memory with them."""
    return {name: torch.tensor(array) for name, array in arrays.items()}


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network whose initial weights depend on this seed alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def initial_generator(task: GanTask, seeds: Seeds) -> nn.Module:
    """The generator before any round: the same everywhere, from the study's public seed."""
    return seeded(task.make_generator, seeds.child("initial", "generator").integer())


def initial_discriminator(task: GanTask, seeds: Seeds) -> nn.Module:
    """The discriminator before any round: the same everywhere, from the study's public seed."""
    return seeded(task.make_discriminator, seeds.child("initial", "discriminator").integer())
