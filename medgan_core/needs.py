"""What a task needs of a study's data, so that a study without it is refused before anything is read."""

from typing import Any

from medgan_core.data_config import DataConfig

Check = tuple[str, Any, bool, str]
"""Key, value, whether it is wrong, and what is expected."""


def needs(task: str, data: DataConfig, normal: str) -> tuple[Check, ...]:
    """What the task finds wrong with [data]. `normal` is the class that anomaly detection trains on."""
    names = data.channel_names or f"{data.image_channels} channels"
    several = 'the names of two or more registered volumes, such as ["T1", "T2"],'
    checks: dict[str, tuple[Check, ...]] = {
        "segmentation": (("data.masks", data.masks, not data.masks, "where the masks are"),),
        "translation": (
            (
                "data.modalities",
                names,
                data.image_channels != 2 or data.depth > 0,
                'exactly two channels, from and to, such as ["T1", "FLAIR"],',
            ),
        ),
        "multimodal": (("data.modalities", data.modalities, len(data.modalities) < 2, several),),
        "volume": (("data.depth", data.depth, not data.depth, "how many slices a volume has, such as 32,"),),
        "anomaly": (
            ("data.classes", data.classes, len(data.classes) == 1, "two classes or more"),
            ("data.classes", data.classes, data.kind == "nifti", "two classes, which NIfTI has not,"),
            (
                "mapping.normal",
                normal,
                bool(normal and data.classes) and normal not in data.classes,
                f"one of {', '.join(data.classes)}",
            ),
        ),
    }
    return checks.get(task, ())
