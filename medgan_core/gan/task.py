"""The seam between a GAN task and everything else: a small frozen dataclass of functions.

A new task is one file under `tasks/` that fills in a `SynthesisTask` or a `PatientTask`, and one line in
`tasks/__init__.py`. Which of the two it is decides what its training costs: fakes that are drawn from noise
and public labels are free, fakes that are made of a patient's image are not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from medgan_core.errors import InputError

ImageShape = tuple[int, int, int]
PatientLoss = Callable[[nn.ModuleDict, nn.ModuleDict, Tensor, Tensor], Tensor]
NetworkLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Panels = tuple[tuple[str, Tensor], ...]
"""Columns of a picture: what they show, and images [n, c, h, w] in [-1, 1]."""


@dataclass(frozen=True)
class GanTask:
    """The networks of one task.

    `image_shape` is (channels, height, width) of what a site holds: an image, and in further channels what
    is registered to it. `private_networks` names the networks whose gradients depend on patients: they go
    through the private engine and may hold no layer that mixes examples.
    """

    name: str
    image_shape: ImageShape
    classes: tuple[str, ...]
    private_networks: frozenset[str]
    make_generator: Callable[[], nn.Module]
    make_discriminator: Callable[[], nn.Module]


@dataclass(frozen=True)
class SynthesisTask(GanTask):
    """A task whose fakes are drawn from noise and public labels: only the real term touches patients.

    `real_loss(D, images, labels)`, `fake_loss(D, fakes, labels)` and `generator_loss(D, fakes, labels)` give
    one value per example, [b]. `rejects(D, fakes, labels)` [b] says which fakes D takes for fakes.
    `sample(G, labels, random)` draws fakes [b, c, h, w] in [-1, 1] from public labels; G takes `latent_size`
    numbers for each. G and labels are on one device, `random` on the CPU: all devices draw the same.
    """

    real_loss: NetworkLoss
    fake_loss: NetworkLoss
    generator_loss: NetworkLoss
    rejects: NetworkLoss
    sample: Callable[[nn.Module, Tensor, RandomGenerator], Tensor]
    latent_size: int


@dataclass(frozen=True)
class PatientTask(GanTask):
    """A task whose fakes are made of patients' images: all terms of all networks are one clipped gradient.

    `prepare(images, random)` [b, …] makes of a site's images what the losses and `scores` take, each row of
    its own image alone. `patient_loss(networks, frozen, rows, labels)` [b] is the sum of all terms, where
    `networks` holds "generator" and "discriminator", and `frozen` is a copy of both as they were before the
    step, which learns nothing: the generator's adversarial term goes through its discriminator.
    `free_loss(networks, frozen, random)` is a mean over fakes drawn from noise, None where there are none.

    `scores(G, rows)` [b, k] in [0, 1] are those of `config.MEAN_SCORES`, or the one probability that an
    image is abnormal. `trains_on` are the labels of the images that are trained on, empty for all.
    `free_parts` are networks by their dotted names in the ModuleDict, such as "generator.decoder", that learn
    from `free_loss` alone: no gradient of a patient reaches them, whatever `patient_loss` does, and no noise.
    `apply(G, inputs)` is what a released generator does to inputs [b, i, h, w], and `panels(G, rows)` are the
    columns of its picture.
    """

    prepare: Callable[[Tensor, RandomGenerator], Tensor]
    patient_loss: PatientLoss
    free_loss: Callable[[nn.ModuleDict, nn.ModuleDict, RandomGenerator], Tensor] | None
    scores: Callable[[nn.Module, Tensor], Tensor]
    apply: Callable[[nn.Module, Tensor], Tensor]
    panels: Callable[[nn.Module, Tensor], Panels]
    trains_on: tuple[int, ...] = ()
    free_parts: tuple[str, ...] = ()

    def answers(self, labels: Tensor) -> Tensor:
        """Whether an image is of another class than those that are trained on, int64 [n]."""
        known = torch.tensor(self.trains_on, dtype=labels.dtype)
        return (~torch.isin(labels, known)).long()


def synthesis_of(task: GanTask) -> SynthesisTask:
    """The task as one that draws from noise. Raises InputError for one that works on a patient's image."""
    if not isinstance(task, SynthesisTask):
        raise InputError(f"task {task.name}: it draws no images from noise; expected a task of synthesis")
    return task
