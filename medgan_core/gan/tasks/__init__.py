"""The tasks by the word that a study uses for them."""

from collections.abc import Callable

from medgan_core.config import MappingConfig, Study, TrainingConfig
from medgan_core.gan.task import GanTask, ImageShape
from medgan_core.gan.tasks.anomaly import anomaly
from medgan_core.gan.tasks.augmentation import augmentation
from medgan_core.gan.tasks.multimodal import multimodal
from medgan_core.gan.tasks.restoration import restoration
from medgan_core.gan.tasks.segmentation import segmentation
from medgan_core.gan.tasks.synthesis import synthesis
from medgan_core.gan.tasks.translation import translation
from medgan_core.gan.tasks.volume import volume

TASKS: dict[str, Callable[[TrainingConfig, MappingConfig, ImageShape, tuple[str, ...]], GanTask]] = {
    "synthesis": synthesis,
    "augmentation": augmentation,
    "multimodal": multimodal,
    "volume": volume,
    "segmentation": segmentation,
    "restoration": restoration,
    "translation": translation,
    "anomaly": anomaly,
}


def make_task(study: Study, image_shape: ImageShape, classes: tuple[str, ...]) -> GanTask:
    """The task that a study names, for images of this shape and these classes."""
    return TASKS[study.task](study.training, study.mapping, image_shape, classes)
