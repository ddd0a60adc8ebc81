"""What a released generator takes and gives, as other programs must know it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from medgan_core.gan.task import GanTask, PatientTask, SynthesisTask
from medgan_core.release.purposes import input_channels


@dataclass(frozen=True)
class Ports:
    """Shapes without the batch. `inputs` by name: "latent" (n) and "labels" () of a generator that draws from
    noise, "images" (i, h, w) of one that works on images; `output` is (c, h, w), its values in [-1, 1].
    """

    inputs: Mapping[str, tuple[int, ...]]
    output: tuple[int, int, int]

    @property
    def draws(self) -> bool:
        """Whether it draws from noise."""
        return "latent" in self.inputs


def ports(task: GanTask) -> Ports:
    """The ports of a task's generator."""
    channels, height, width = task.image_shape
    if isinstance(task, SynthesisTask):
        return Ports({"latent": (task.latent_size,), "labels": ()}, (channels, height, width))
    made = channels if task.name == "restoration" else 1  # else a mask, a modality, or a heat map
    return Ports(
        {"images": (input_channels(task.name, task.image_shape), height, width)}, (made, height, width)
    )


class Applied(nn.Module):
    """A generator as its ports say: the network itself, or what its task does with an image."""

    def __init__(self, task: GanTask, generator: nn.Module) -> None:
        super().__init__()
        self.task, self.generator = task, generator

    def forward(self, *inputs: Tensor) -> Tensor:
        """Images [b, c, h, w] in [-1, 1]."""
        if isinstance(self.task, PatientTask):
            return self.task.apply(self.generator, *inputs)
        images: Tensor = self.generator(*inputs)
        return images
