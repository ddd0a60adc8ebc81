"""One forward and one backward pass that leave, for each layer, its input and the gradient of its output.

No gradient of a weight is computed: `torch.autograd.grad` is asked for the layers' outputs alone (the
book-keeping of Bu et al. 2023, https://arxiv.org/abs/2210.00038).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from medgan_core.privacy.admission import refused
from medgan_core.privacy.layers import KINDS


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer in the forward pass: its detached inputs and its place in the graph."""

    name: str
    layer: nn.Module
    inputs: tuple[Tensor, ...]
    versions: tuple[int, ...]
    sources: tuple[Node, ...]
    edge: GradientEdge


@dataclass(frozen=True, eq=False)
class Tap:
    """One call of a layer: its inputs and the gradient of its output, [n, …] each."""

    inputs: tuple[Tensor, ...]
    gradient: Tensor


@contextmanager
def recording(layers: Mapping[str, nn.Module], images: int) -> Iterator[list[Call]]:
    """Note the calls of the layers while the context is open, in their order.

    Raises ConfigError naming a layer that is called on another number of rows than there are images.
    """
    calls: list[Call] = []
    handles = [
        layer.register_forward_hook(partial(_note, calls, images, name), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _note(
    calls: list[Call],
    images: int,
    name: str,
    layer: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Tensor,
) -> None:
    given = tuple(x for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
    if not output.requires_grad:
        return
    if len(output) != images or ((kind := KINDS.get(type(layer))) and not kind.batched(layer, given[0])):
        shape = tuple(given[0].shape)
        raise refused(name, layer, f"an input {shape} for {images} images; each call takes one row an image")
    calls.append(
        Call(
            name,
            layer,
            tuple(x.detach() for x in given),
            tuple(x._version for x in given),
            tuple(x.grad_fn for x in given if x.grad_fn is not None),
            get_gradient_edge(output),  # and not the output: an activation in place would take its place
        )
    )


def taps_of(losses: Tensor, weights: Tensor, calls: list[Call]) -> dict[str, list[Tap]]:
    """The taps of every layer by its name, from the gradient of Σ weights · losses; both are [n]."""
    found: dict[str, list[Tap]] = {}
    gradients = _backward((losses * weights).sum(), [call.edge for call in calls])
    for call, gradient in zip(calls, gradients, strict=True):
        if gradient is not None:
            found.setdefault(call.name, []).append(Tap(call.inputs, gradient))
    return found


def _backward(total: Tensor, edges: list[GradientEdge]) -> Sequence[Tensor | None]:
    if not edges or not total.requires_grad:
        return [None] * len(edges)
    return torch.autograd.grad(total, edges, allow_unused=True)


def check_inputs_are_kept(calls: list[Call]) -> None:
    """Raises ConfigError naming a layer whose input was changed after it was read."""
    for call in calls:
        if any(x._version != version for x, version in zip(call.inputs, call.versions, strict=True)):
            raise refused(call.name, call.layer, "its input is changed in place after it was read")


def check_weights_are_seen(losses: Tensor, calls: list[Call], layers: Mapping[str, nn.Module]) -> None:
    """Every way from the losses to a weight leads through a noted call; raises ConfigError naming the layer.

    What does not: a weight used without its layer, or a loss that holds gradients by weights.
    """
    owners = {p: name for name, layer in layers.items() for p in layer.parameters(recurse=False)}
    sources = [source for call in calls for source in call.sources]
    starts = sources + ([losses.grad_fn] if losses.grad_fn is not None else [])
    for node in _reachable(starts, {call.edge.node for call in calls}):
        parameter = getattr(node, "variable", None)
        if parameter in owners:
            name = owners[parameter]
            raise refused(name, layers[name], "one of its weights is used outside of the layer's own call")


def _reachable(starts: Iterable[Node], barred: set[Node]) -> Iterator[Node]:
    """All nodes of the graph on the way down from `starts` that do not lie behind a barred one."""
    waiting, seen = list(starts), set(barred)
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions if following is not None]


def check_images_are_apart(losses: Tensor, calls: list[Call], images: Tensor, network: nn.Module) -> None:
    """The first image's loss depends on no other; raises ConfigError naming the layer before the mixing.

    `images` is a leaf of the graph. Not a number is no sign of mixing: it is what 0 · ∞ makes.
    """
    if not losses.requires_grad:
        return
    edges = [get_gradient_edge(images), *(call.edge for call in calls)]
    found = torch.autograd.grad(losses[0], edges, allow_unused=True, retain_graph=True)
    places = [("", network), *((call.name, call.layer) for call in calls)]
    mixed = [
        place
        for place, gradient in zip(places, found, strict=True)
        if gradient is not None and bool(gradient[1:].nan_to_num(0.0).any())
    ]
    if mixed:
        raise refused(*mixed[-1], "what follows mixes the images of a batch, or their axis is not the first")


@contextmanager
def unchanged(network: nn.Module) -> Iterator[None]:
    """Raises ConfigError naming the layer whose weights or buffers the forward pass changed."""
    before = _states(network)
    yield
    for name, state in _states(network).items():
        if before.get(name) != state:
            owner = name.rpartition(".")[0]
            raise refused(owner, network.get_submodule(owner), f"{name} changes in the forward pass")


def _states(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Identity and version of every weight and buffer."""
    every = (*network.named_parameters(), *network.named_buffers())
    return {name: (id(tensor), tensor._version) for name, tensor in every}
