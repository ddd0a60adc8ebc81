"""A patient's image out of the gradient of one step.

The last layer is linear, so the ratio of its two gradients is what that layer saw of the image (Phong et
al. 2018, https://doi.org/10.1109/TIFS.2017.2787987): `from_features` looks for the image with these features.
`from_latents` looks for it among what the released generator draws (Jeon et al. 2021, "Gradient Inversion
with Generative Image Prior", https://arxiv.org/abs/2110.14962) with the cosine distance of Geiping et al.
2020, https://arxiv.org/abs/2003.14053. `from_samples` is the best guess where noise hides most: the mean
image under the posterior that noise and generator make together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cosine_similarity, one_hot

from medgan_core.gan.task import SynthesisTask
from simulations.attacks.exposure import Scene

_ROUGHNESS = 1e-4
_CHUNK = 64


def from_features(scene: Scene, seen: Sequence[Tensor], label: int, start: Tensor, steps: int) -> Tensor:
    """The image [1, c, h, w] whose last features are those that the gradient shows.

    `start` is the first guess, in the same shape. Under noise the ratio means little; the guess
    stays within the range of an image all the same.
    """
    network, (weight, bias) = scene.discriminator(), seen[-2:]
    features = (weight.flatten() / bias.flatten().clamp(max=-1e-9)).float()
    body = nn.Sequential(*list(network.children())[:-1])
    labels = torch.tensor([label])
    planes = _planes(len(scene.task.classes), start, labels)
    logits = torch.atanh(start.clamp(-0.99, 0.99)).requires_grad_(True)
    rule = torch.optim.LBFGS([logits], max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def mismatch() -> Tensor:
        rule.zero_grad()
        image = torch.tanh(logits)
        found = body(torch.cat([image, planes], 1)).flatten()
        apart = (found - features).square().sum() / features.square().sum()
        loss: Tensor = apart + _ROUGHNESS * _total_variation(image)
        loss.backward()
        return loss

    rule.step(mismatch)
    return torch.tanh(logits).detach()


def from_latents(
    scene: Scene, seen: Sequence[Tensor], label: int, generator: nn.Module, latents: Tensor, steps: int
) -> Tensor:
    """The image [1, c, h, w] of the latent whose gradient points most where `seen` does.

    The search starts at each of `latents` [k, z] and goes on at once from all; the best one counts.
    """
    network, labels = scene.discriminator(), torch.full((len(latents),), label)
    target = _flat(seen)
    found = latents.clone().requires_grad_(True)
    rule = torch.optim.Adam([found], 0.05)
    for _ in range(steps):
        rule.zero_grad()
        images = generator(found, labels)
        loss = 1 - cosine_similarity(_gradients(scene.task, network, images, label), target[None])
        loss.sum().backward()
        rule.step()
    with torch.no_grad():
        images = generator(found, labels)
    agreement = cosine_similarity(gradients(scene, images, label), target[None])
    best: Tensor = images[agreement.argmax()][None]
    return best


def from_samples(scene: Scene, seen: Sequence[Tensor], label: int, images: Tensor) -> Tensor:
    """The mean [1, c, h, w] of images drawn from the prior, weighted by how likely each makes what was seen.

    No guess has a smaller expected squared error, as far as the prior is right. Without noise it is the
    nearest of the images.
    """
    target, told = _flat(seen), gradients(scene, images, label)
    if scene.plan.private:
        told = told * (scene.plan.clip_norm / told.norm(dim=1, keepdim=True)).clamp(max=1.0)
    # without noise a deviation that is small beside all distances
    squares = (told - target).square().sum(1)
    spread = scene.deviation**2 or float(squares.min()) / 100
    weights = torch.softmax(-squares / (2 * spread), 0)
    return (images * weights[:, None, None, None].to(images.dtype)).sum(0, keepdim=True)


def gradients(scene: Scene, images: Tensor, label: int) -> Tensor:
    """The gradient of the real term for each image of this label on its own, [n, weights]."""
    network = scene.discriminator()
    with torch.no_grad():
        return torch.cat([_gradients(scene.task, network, part, label) for part in images.split(_CHUNK)])


def _gradients(task: SynthesisTask, network: nn.Module, images: Tensor, label: int) -> Tensor:
    labels = torch.tensor([label])
    weights = {name: p.detach() for name, p in network.named_parameters()}

    def loss(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        def called(images: Tensor, labels: Tensor) -> Tensor:
            scores: Tensor = functional_call(network, weights, (images, labels))
            return scores

        return task.real_loss(called, image[None], labels).sum()  # type: ignore[arg-type]

    each = vmap(grad(loss), in_dims=(None, 0))(weights, images)
    return torch.cat([part.flatten(1) for part in each.values()], 1)


def _flat(gradient: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in gradient]).float()


def _planes(classes: int, image: Tensor, labels: Tensor) -> Tensor:
    hot = one_hot(labels, classes).to(image.dtype)
    return hot[:, :, None, None].expand(-1, -1, *image.shape[2:])


def _total_variation(image: Tensor) -> Tensor:
    return image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean()
