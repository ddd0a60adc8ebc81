"""The methods that the benchmark of tasks compares, by task and by their names on the command line.

A task's rivals are one file beside this one, with its `METHODS`: "medgan" first, each a function of a `Case`.
"""

from simulations.benchmarks.tasks import anomaly, drawn, restoration, segmentation, translation
from simulations.benchmarks.tasks.case import Judge

METHODS: dict[str, dict[str, Judge]] = {
    "anomaly": anomaly.METHODS,
    "segmentation": segmentation.METHODS,
    "restoration": restoration.METHODS,
    "translation": translation.METHODS,
    "augmentation": drawn.AUGMENTATION,
    "multimodal": drawn.STRUCTURE,
    "volume": drawn.STRUCTURE,
}
