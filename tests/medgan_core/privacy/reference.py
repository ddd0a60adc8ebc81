"""Slow and plain ways to the same sums: what the engine is compared with."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from medgan_core.privacy.hooks import Hooked

ExampleLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def by_opacus(network: nn.Module, loss: ExampleLoss, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Per-image gradients [n, …] of all parameters through Opacus' hooks."""
    hooked = Hooked(network)
    found = hooked.per_image(lambda module: loss(module, images, labels))
    hooked.close()
    return found


def by_vmap(network: nn.Module, loss: ExampleLoss, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Per-image gradients [n, …] of all trainable parameters: each image alone, vectorised."""
    trained = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}

    def one(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        def called(*inputs: Tensor) -> Tensor:
            output: Tensor = functional_call(network, parameters, inputs)
            return output

        return loss(called, image[None], label[None]).sum()  # type: ignore[arg-type]

    found = vmap(grad(one), in_dims=(None, 0, 0))(trained, images, labels)
    return list(found.values())


def by_hand(network: nn.Module, loss: ExampleLoss, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Per-image gradients [n, …] of all parameters: one plain backward pass for each image."""
    parameters = list(network.parameters())
    rows = [
        torch.autograd.grad(loss(network, image[None], label[None]).sum(), parameters)
        for image, label in zip(images, labels, strict=True)
    ]
    return [torch.stack(gradients) for gradients in zip(*rows, strict=True)]


def clipped_sum(per_image: list[Tensor], owner: Tensor, clip_norm: float) -> list[Tensor]:
    """Σ over patients of their mean gradient, each scaled to a norm of at most `clip_norm` over all tensors.

    `per_image` holds one tensor [n, …] for each parameter. In float64. A patient whose gradient is not finite
    contributes zero.
    """
    _, place, count = owner.unique(return_inverse=True, return_counts=True)
    means = []
    for gradient in per_image:
        flat = gradient.flatten(1).double()
        means.append(
            flat.new_zeros(len(count), flat.shape[1]).index_add_(0, place, flat).div_(count[:, None])
        )
    norms = torch.stack([torch.linalg.vector_norm(mean, dim=1) for mean in means]).norm(dim=0)
    factor = (clip_norm / norms.clamp_min(1e-300)).clamp_max(1.0)
    finite = torch.isfinite(norms)
    return [
        (factor[finite] @ mean[finite]).view(gradient.shape[1:])
        for mean, gradient in zip(means, per_image, strict=True)
    ]
