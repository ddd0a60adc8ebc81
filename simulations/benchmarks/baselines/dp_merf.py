"""DP-MERF: one noisy mean embedding of random Fourier features of pixels, and a generator that matches it.

Harder, Adamczewski, Park 2021, https://arxiv.org/abs/2002.11603: features of unit norm joint with one-hot
labels, one Gaussian release, and a generator trained by the biased squared MMD between the release and the
mean of its fakes; class by class over noisy counts, as the paper does where classes are not balanced. From
the authors' code for MNIST: the generator, a kernel of variance 105 for 784 pixels, 3,000 steps of Adam at
0.01 on 100 fakes, the rate decayed by 0.9 five times; 10,000 features as in DPImageBench
(https://arxiv.org/abs/2503.14681), whose figures are quoted. Nothing is scaled down. The variance goes with
the number of pixels, a public fact: 0.134 for each is close to what the median heuristic gives for
independent uniform pixels, 1/6.

Other than published: neighbours add or remove a patient, so that the sum has sensitivity 1, and the counts
are in the same query; each batch of fakes has all classes alike; with several sites each adds the full noise
to its own sum, where the paper has one site.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn, optim
from torch.nn.functional import interpolate, one_hot, relu

from client.site import RandomFor
from medgan_core.config import Study
from medgan_core.data.source import Site
from medgan_core.gan.networks import upsamplings
from medgan_core.gan.steps import generator_step, labels_to_match
from medgan_core.gan.task import SynthesisTask, synthesis_of
from medgan_core.privacy.embedding import Embedding, Features
from medgan_core.seeds import Seeds
from medgan_core.tensors import initial_generator, weights_of
from server.state import draw, released_generator
from simulations.benchmarks.baselines.federation import federation
from simulations.benchmarks.baselines.method import Method, Sampler, changed


@dataclass(frozen=True)
class Setup:
    """`frequencies` make twice as many features; `bandwidth` is the kernel's variance for each pixel.

    The generator has a latent of `latent_size`, a hidden layer of `hidden` and images of `channels` inside.
    """

    frequencies: int = 5000
    bandwidth: float = 105 / 784
    iterations: int = 3000
    batch: int = 100
    learning_rate: float = 0.01
    decays: int = 5
    decay: float = 0.9
    latent_size: int = 5
    hidden: int = 200
    channels: tuple[int, int] = (16, 8)


class Generator(nn.Module):
    """The authors' generator: latent [b, z] and labels [b] to images [b, c, s, s] in [-1, 1].

    Two linear layers, then bilinear upsampling by 2 and a 5×5 convolution until the side is reached; theirs
    has 28 pixels and two of those. BatchNorm of single units is written as that of 1×1 images.
    """

    def __init__(self, setup: Setup, classes: int, channels: int, size: int) -> None:
        super().__init__()
        ups, self.base = upsamplings(size)
        self.classes, (wide, narrow) = classes, setup.channels
        self.first = nn.Linear(setup.latent_size + classes, setup.hidden)
        self.first_norm = nn.BatchNorm2d(setup.hidden)
        self.second = nn.Linear(setup.hidden, wide * self.base**2)
        self.second_norm = nn.BatchNorm2d(wide * self.base**2)
        widths = [wide, *[narrow] * (ups - 1), channels]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 5, padding=2) for a, b in pairwise(widths))

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        """Images [b, c, s, s]."""
        joined = torch.cat([latent, one_hot(labels, self.classes).to(latent.dtype)], dim=1)
        hidden = relu(self.first_norm(self.first(joined)[:, :, None, None])).flatten(1)
        images: Tensor = self.second_norm(self.second(hidden)[:, :, None, None]).flatten(1)
        images = images.unflatten(1, (-1, self.base, self.base))
        images = images.contiguous(memory_format=torch.channels_last)  # a fifth less time on a CPU
        for place, convolution in enumerate(self.convolutions):
            images = interpolate(relu(images) if place else images, scale_factor=2, mode="bilinear")
            images = convolution(images)
        return torch.tanh(images / 2)  # the logistic function from 0 to 1, as from -1 to 1


def dp_merf(
    study: Study, sites: Sequence[Site], seeds: Seeds, random: RandomFor, setup: Setup = Setup()
) -> Sampler:
    """One query with the whole ε at each site, summed without a mask; the rest is post-processing."""
    asked = {
        "strategy": "one_shot",
        "one_shot.frequencies": setup.frequencies,
        "one_shot.bandwidths": [setup.bandwidth],
        "one_shot.gabor_bandwidths": [],
        "one_shot.iterations": 0,
        "training.latent_size": setup.latent_size,
        "training.spatial_noise": 0.0,
        "evaluation.attack": False,  # the published method pays for none
    }
    study = changed(study, asked)
    done = federation(study, sites, random)
    released = torch.tensor(done.state.groups["statistics"]["embedding"])
    embedding = Embedding.read(released, study.one_shot.count_weight)
    features = Features.of(study.one_shot, done.task.image_shape, Seeds(study.seed))
    mismatch = partial(biased_mismatch, embedding.mean, features)
    channels, size, _ = done.task.image_shape
    task = replace(
        synthesis_of(done.task), make_generator=lambda: Generator(setup, len(embedding.mean), channels, size)
    )
    generator = initial_generator(task, seeds.child("dp-merf"))
    _match(setup, task, generator, mismatch, seeds.child("dp-merf"))
    generator = released_generator(task, weights_of(generator), seeds)
    return Sampler(partial(draw, task, generator), done.epsilon)


def biased_mismatch(
    mean: Tensor, features: Callable[[Tensor], Tensor], fakes: Tensor, labels: Tensor
) -> Tensor:
    """Squared distance of the fakes' mean features to `mean` [classes, d], summed over classes: []."""
    hot = one_hot(labels, len(mean)).to(fakes.dtype)
    of_fakes = hot.T @ features(fakes) / hot.sum(0).clamp_min(1)[:, None]
    return (mean - of_fakes).square().sum()


def _match(
    setup: Setup,
    task: SynthesisTask,
    generator: nn.Module,
    mismatch: Callable[[Tensor, Tensor], Tensor],
    seeds: Seeds,
) -> None:
    rule = optim.Adam(generator.parameters(), setup.learning_rate)
    decay = optim.lr_scheduler.StepLR(rule, max(setup.iterations // setup.decays, 1), setup.decay)
    labels, random = labels_to_match(setup.batch, len(task.classes)), seeds.child("latent").generator()
    generator.train()
    for _ in range(setup.iterations):
        generator_step(task, generator, None, rule, labels, random, anchor=mismatch)
        decay.step()


DP_MERF = Method(dp_merf, asdict(Setup()))
