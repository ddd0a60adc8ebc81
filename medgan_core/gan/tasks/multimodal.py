"""Several modalities at once: one generator whose channels are registered images of one patient.

Private networks: the discriminator alone, as in plain synthesis, whose networks these are. They see all
channels together, so that what is bright in one modality and dark in another lies at the same place.
"""

from dataclasses import replace

from medgan_core.config import MappingConfig, TrainingConfig
from medgan_core.gan.task import ImageShape, SynthesisTask
from medgan_core.gan.tasks.synthesis import synthesis


def multimodal(
    training: TrainingConfig, mapping: MappingConfig, image_shape: ImageShape, classes: tuple[str, ...]
) -> SynthesisTask:
    """The synthesis of images with a modality in each channel. `mapping` has no say in it."""
    return replace(synthesis(training, mapping, image_shape, classes), name="multimodal")
