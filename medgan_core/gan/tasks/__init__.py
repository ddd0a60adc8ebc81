"""The tasks by the word that a study uses for them."""

from collections.abc import Callable

from medgan_core.config import Study, TrainingConfig
from medgan_core.gan.task import GanTask
from medgan_core.gan.tasks.synthesis import synthesis

TASKS: dict[str, Callable[[TrainingConfig, tuple[int, int, int], tuple[str, ...]], GanTask]] = {
    "synthesis": synthesis,
}


def make_task(study: Study, image_shape: tuple[int, int, int], classes: tuple[str, ...]) -> GanTask:
    """The task that a study names, for images of this shape and these classes."""
    return TASKS[study.task](study.training, image_shape, classes)
