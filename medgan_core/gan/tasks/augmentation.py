"""Augmentation: synthesis whose release is judged by what it adds to a small set of real labelled images.

Private networks: the discriminator alone, as in `synthesis.py`; training and guarantee are the same. The gain
of a classifier that is given synthetic images too is measured by `evaluate/augmentation.py`.
"""

from dataclasses import replace

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.task import ImageShape, SynthesisTask
from medgan_core.gan.tasks.synthesis import synthesis


def augmentation(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> SynthesisTask:
    """The synthesis of a study under this name."""
    return replace(synthesis(training, mapping, image_shape, classes), name="augmentation")
