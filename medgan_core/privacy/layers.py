"""What one layer adds to patients' gradients, from its input `a` and the gradient `g` of its output.

The gradient of a weight is a sum over positions of outer products, so that its norm needs the two factors
alone (Goodfellow 2015, https://arxiv.org/abs/1510.01799; Bu et al. 2022, https://arxiv.org/abs/2205.10683).
Biases and the weights of norm layers are so small that they are made for each image. All other types of
layers go through Opacus' grad samplers. `a` and `g` begin with the images, [n, …], in float32 or float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from opacus import GradSampleModule
from torch import Tensor, nn
from torch.nn import functional

Factors = tuple[Tensor, Tensor]
Small = dict[str, Tensor]


@dataclass(frozen=True)
class Kind:
    """How the gradients of one type of layer are had.

    `batched(layer, a)`: whether the input begins with the images. `factors(layer, a, g)`: of the weight's
    gradient, [n, groups, positions, o] and [n, groups, positions, p], p being the kernel's place and the
    channel; row numbers [n, 1, positions, 1] stand for a second factor of ones and zeros.
    `total(layer, a, g)`: the weight's gradient summed over all images, of its shape. `small(layer, a, g)`:
    gradients of other parameters for each image, float64 [n, …], by name.
    """

    batched: Callable[[Any, Tensor], bool]
    factors: Callable[[Any, Tensor, Tensor], Factors] | None
    total: Callable[[Any, Tensor, Tensor], Tensor] | None
    small: Callable[[Any, Tensor, Tensor], Small]


def _by_channel(x: Tensor) -> Tensor:
    """The sum over all positions, [n, channels]."""
    return x.reshape(*x.shape[:2], -1).sum(2).double()


def _by_feature(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The sum over all axes between the first and those of `shape`, [n, *shape]."""
    return x.reshape(len(x), -1, *shape).sum(1).double()


def _padded(layer: Any, x: Tensor) -> Tensor:
    """What a convolution really slides over, [n, channels, *space]."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded: Tensor = functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    return padded


def _padded_last(layer: Any, x: Tensor) -> Tensor:
    """The same with channels last, contiguous; zeros are laid around while channels move, in one copy."""
    if layer.padding_mode != "zeros":
        return _padded(layer, x).movedim(1, -1).contiguous()
    around = [0, 0, *layer._reversed_padding_repeated_twice]
    return functional.pad(x.movedim(1, -1), around).contiguous()


def _windows(layer: Any, x: Tensor, space: tuple[int, ...]) -> Tensor:
    """The window of padded `x` at each position of `space`: [n, groups, positions, kernel · its channels].

    Channels lie together, so that long runs are copied: several times faster than `unfold` on a CPU.
    """
    x = _padded_last(layer, x)
    n, *along, _ = x.stride()
    channels = x.shape[-1] // layer.groups
    step = [a * b for a, b in zip(along, layer.stride, strict=True)]
    inside = [a * b for a, b in zip(along, layer.dilation, strict=True)]
    shape = (len(x), layer.groups, *space, *layer.kernel_size, channels)
    windows = x.as_strided(shape, (n, channels, *step, *inside, 1))
    return windows.reshape(len(x), layer.groups, prod(space), -1)


def _positions(layer: Any, x: Tensor) -> Tensor:
    """[n, groups, positions, channels of a group]."""
    return x.reshape(len(x), layer.groups, -1, prod(x.shape[2:])).mT


def _conv_factors(layer: Any, a: Tensor, g: Tensor) -> Factors:
    return _positions(layer, g), _windows(layer, a, g.shape[2:])


def _transposed_factors(layer: Any, a: Tensor, g: Tensor) -> Factors:
    """A transposed convolution is the other way round: its output is what the windows slide over."""
    return _positions(layer, a), _windows(layer, g, a.shape[2:])


def _conv_total(layer: Any, a: Tensor, g: Tensor) -> Tensor:
    padding = layer.padding
    if isinstance(padding, str) or layer.padding_mode != "zeros":
        a, padding = _padded(layer, a), [0] * len(layer.kernel_size)
    weight = layer.weight.detach().to(a.dtype)
    geometry = (layer.stride, padding, layer.dilation, layer.transposed, layer.output_padding, layer.groups)
    found = torch.ops.aten.convolution_backward(g, a, weight, None, *geometry, [False, True, False])
    total: Tensor = found[1]
    return total


def _linear_factors(layer: nn.Linear, a: Tensor, g: Tensor) -> Factors:
    return g.reshape(len(g), 1, -1, g.shape[-1]), a.reshape(len(a), 1, -1, a.shape[-1])


def _linear_total(layer: nn.Linear, a: Tensor, g: Tensor) -> Tensor:
    return torch.mm(g.flatten(0, -2).T, a.flatten(0, -2))


def _embedded(layer: nn.Embedding, a: Tensor, g: Tensor) -> Tensor:
    """The output's gradient, but for the padding index, which learns nothing."""
    return g if layer.padding_idx is None else g * (a != layer.padding_idx)[..., None]


def _embedding_factors(layer: nn.Embedding, a: Tensor, g: Tensor) -> Factors:
    return _embedded(layer, a, g).reshape(len(g), 1, -1, g.shape[-1]), a.reshape(len(a), 1, -1, 1)


def _embedding_total(layer: nn.Embedding, a: Tensor, g: Tensor) -> Tensor:
    rows = _embedded(layer, a, g).reshape(-1, g.shape[-1])
    return torch.zeros_like(layer.weight, dtype=g.dtype).index_add_(0, a.flatten(), rows)


def _group_norm(layer: nn.GroupNorm, a: Tensor, g: Tensor) -> Small:
    normal = functional.group_norm(a, layer.num_groups, eps=layer.eps)
    return {"weight": _by_channel(normal * g), "bias": _by_channel(g)}


def _instance_norm(layer: nn.InstanceNorm2d, a: Tensor, g: Tensor) -> Small:
    normal = functional.instance_norm(a, eps=layer.eps)
    return {"weight": _by_channel(normal * g), "bias": _by_channel(g)}


def _layer_norm(layer: nn.LayerNorm, a: Tensor, g: Tensor) -> Small:
    shape = layer.normalized_shape
    normal = functional.layer_norm(a, shape, eps=layer.eps)
    return {"weight": _by_feature(normal * g, shape), "bias": _by_feature(g, shape)}


def _convolution(factors: Callable[[Any, Tensor, Tensor], Factors]) -> Kind:
    return Kind(
        batched=lambda layer, a: a.dim() == layer.weight.dim(),
        factors=factors,
        total=_conv_total,
        small=lambda layer, a, g: {"bias": _by_channel(g)},
    )


_CONVOLUTION, _TRANSPOSED = _convolution(_conv_factors), _convolution(_transposed_factors)
_LINEAR = Kind(
    batched=lambda layer, a: a.dim() >= 2,
    factors=_linear_factors,
    total=_linear_total,
    small=lambda layer, a, g: {"bias": _by_feature(g, g.shape[-1:])},
)
_EMBEDDING = Kind(
    batched=lambda layer, a: a.dim() >= 1,
    factors=_embedding_factors,
    total=_embedding_total,
    small=lambda layer, a, g: {},
)
_GROUP_NORM = Kind(lambda layer, a: a.dim() >= 2, None, None, _group_norm)
_LAYER_NORM = Kind(lambda layer, a: a.dim() > len(layer.normalized_shape), None, None, _layer_norm)
_INSTANCE_NORM = Kind(lambda layer, a: a.dim() > layer._get_no_batch_dim(), None, None, _instance_norm)

KINDS: dict[type[nn.Module], Kind] = {
    nn.Conv1d: _CONVOLUTION,
    nn.Conv2d: _CONVOLUTION,
    nn.Conv3d: _CONVOLUTION,
    nn.ConvTranspose1d: _TRANSPOSED,
    nn.ConvTranspose2d: _TRANSPOSED,
    nn.ConvTranspose3d: _TRANSPOSED,
    nn.Linear: _LINEAR,
    nn.Embedding: _EMBEDDING,
    nn.GroupNorm: _GROUP_NORM,
    nn.LayerNorm: _LAYER_NORM,
    nn.InstanceNorm1d: _INSTANCE_NORM,
    nn.InstanceNorm2d: _INSTANCE_NORM,
    nn.InstanceNorm3d: _INSTANCE_NORM,
}
"""By the exact type: a subclass may compute something else."""


def has_grad_sampler(layer: nn.Module) -> bool:
    """Whether Opacus knows the gradients for each image of exactly this type of layer."""
    return type(layer) in GradSampleModule.GRAD_SAMPLERS


def sampled(layer: nn.Module, inputs: tuple[Tensor, ...], g: Tensor) -> Small:
    """Gradients of all parameters for each image through Opacus, float64 [n, …], by name."""
    names = {parameter: name for name, parameter in layer.named_parameters(recurse=False)}
    found = GradSampleModule.GRAD_SAMPLERS[type(layer)](layer, list(inputs), g)
    return {names[parameter]: gradient.detach().double() for parameter, gradient in found.items()}
