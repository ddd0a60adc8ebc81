"""What configs/inference.json of a release calls; all of it opens the release and so checks its hashes."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from medgan_core.errors import InputError
from medgan_core.gan.task import PatientTask
from medgan_core.release.bundle import Release
from medgan_core.release.export import write_npz
from medgan_core.release.ports import Applied


def network(bundle: str) -> nn.Module:
    """The generator, in evaluation mode."""
    release = Release.open(bundle)
    return Applied(release.facts.make_task(), release.generator()).eval()


def draw(bundle: str, number: int, seed: int, output: str) -> None:
    """Write the images that `medgan generate --n NUMBER --seed SEED --format npz` gives."""
    release = Release.open(bundle)
    images, labels = release.sample(number, seed)
    write_npz(Path(output), images, labels, release.facts.classes, release.card.privacy)


@torch.no_grad()
def work_on(bundle: str, given: str, output: str) -> None:
    """Work on the array `images` float32 [N, i, h, w] of an npz; what comes out is `images` [N, o, h, w]."""
    release = Release.open(bundle)
    task, generator = release.facts.make_task(), release.generator()
    if not isinstance(task, PatientTask):
        raise InputError(f"task {task.name}: it draws from noise and takes no images")
    with np.load(given, allow_pickle=False) as opened:
        images = torch.from_numpy(np.asarray(opened["images"], np.float32))
    made = torch.cat([task.apply(generator, part) for part in images.split(64)])
    np.savez(output, images=made.numpy(), privacy=np.array(release.card.privacy))
