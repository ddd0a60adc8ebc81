"""Which networks may learn from patients: those whose weights sit in layers that keep images apart.

What is refused here breaks the guarantee or would make the clipped norm a wrong one; it is refused by name,
before data is touched.
"""

import logging
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from medgan_core.errors import ConfigError
from medgan_core.privacy.layers import KINDS, has_grad_sampler

_log = logging.getLogger(__name__)


def refused(name: str, layer: nn.Module, reason: str) -> ConfigError:
    """The error that names a layer, what is wrong with it and what would be right."""
    expected = "layers that keep examples apart and learn nothing outside of the optimiser"
    return ConfigError(
        "private network", f"{name or 'network'}: {type(layer).__name__}", f"{expected}: {reason}"
    )


def private_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The layers with weights to train, by name.

    Raises ConfigError naming the first layer that may not learn from patients. Layers without a kind of
    their own here are slower and take more memory; a log line names them.
    """
    owners: dict[nn.Parameter, str] = {}
    layers = {}
    for name, layer in network.named_modules():
        for reason in _reasons(layer):
            raise refused(name, layer, reason)
        own = [p for p in layer.parameters(recurse=False) if p.requires_grad]
        for parameter in own:
            if (first := owners.setdefault(parameter, name)) != name:
                raise refused(name, layer, f"one of its weights is that of {first} too; use one layer twice")
        if own:
            layers[name] = layer
    slow = [f"{name}: {type(layer).__name__}" for name, layer in layers.items() if type(layer) not in KINDS]
    if slow:
        _log.warning("a gradient for each image is made, which costs memory and time, of %s", ", ".join(slow))
    return layers


def _reasons(layer: nn.Module) -> Iterator[str]:
    if isinstance(layer, _BatchNorm):
        yield "it normalises over the batch; GroupNorm would do"
    if isinstance(layer, _NormBase) and layer.track_running_stats:
        yield "it keeps statistics; track_running_stats=False would do"
    if not any(p.requires_grad for p in layer.parameters(recurse=False)):
        return
    known = type(layer) in KINDS
    if not known and not has_grad_sampler(layer):
        yield "it has weights of its own, and nothing knows their gradients image by image"
    if known and not {name for name, _ in layer.named_parameters(recurse=False)} <= {"weight", "bias"}:
        yield "its weights are made anew in each pass (weight_norm, spectral_norm)"
    if list(layer.buffers(recurse=False)):
        yield "it has both weights and buffers"
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        yield "a hook may change what goes through it"
    if isinstance(layer, nn.EmbeddingBag):
        yield "Opacus's sampler counts a row that a bag names twice but once; Embedding and a mean would do"
    if isinstance(layer, nn.Embedding) and (layer.max_norm or layer.scale_grad_by_freq or layer.sparse):
        yield "an embedding with max_norm, scale_grad_by_freq or sparse looks at the whole batch"
