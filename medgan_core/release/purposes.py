"""What a release is for: the command of each task, and how many channels its network takes."""

from typing import Literal

from medgan_core.errors import InputError

Command = Literal["generate", "segment", "restore", "translate", "detect"]
Purpose = Literal["segmentation", "restoration", "translation", "anomaly"]
COMMANDS: dict[str, Command] = {
    "segmentation": "segment",
    "restoration": "restore",
    "translation": "translate",
    "anomaly": "detect",
}
"""Of the tasks that work on an image; all others draw images from noise."""


def command_of(task: str) -> Command:
    """The command that uses a release of this task."""
    return COMMANDS.get(task, "generate")


def check_command(task: str, command: Command) -> None:
    """Raise InputError where a release of this task is for another command, and say for which."""
    fitting = command_of(task)
    if fitting != command:
        raise InputError(f"a release of task {task} is not for medgan {command}: use medgan {fitting}")


def input_channels(task: str, image_shape: tuple[int, int, int]) -> int:
    """How many channels a network takes, of the images (channels, height, width) that it was trained on.

    The last channel of segmentation is the mask, restoration takes a code of the damage beside the image, and
    translation the first of two modalities.
    """
    channels = image_shape[0]
    return {"segmentation": channels - 1, "restoration": channels + 1, "translation": 1}.get(task, channels)
