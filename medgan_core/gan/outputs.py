"""What a generator makes of images, image by image: rows, and their scores."""

from hashlib import sha256

import torch
from torch import Tensor, nn

from medgan_core.gan.task import PatientTask

_AT_ONCE = 64


def prepared_alone(task: PatientTask, images: Tensor) -> Tensor:
    """The rows that a task makes of images [n, c, h, w], each by a stream that this image alone decides."""

    def stream(image: Tensor) -> torch.Generator:
        return torch.Generator().manual_seed(int.from_bytes(sha256(image.numpy().tobytes()).digest()[:7]))

    return torch.cat([task.prepare(image[None], stream(image)) for image in images])


@torch.no_grad()
def output_scores(task: PatientTask, generator: nn.Module, images: Tensor) -> Tensor:
    """The scores of each image, [n, k]: a function of generator and image alone."""
    if not len(images):  # nobody joined: as many columns, and no row
        return output_scores(task, generator, images.new_zeros(1, *images.shape[1:]))[:0]
    weight = next(generator.eval().parameters(), torch.empty(0))
    parts = prepared_alone(task, images).split(_AT_ONCE)
    return torch.cat([task.scores(generator, part.to(weight.device)).cpu() for part in parts])
