"""Where networks run: as a person chooses, on what this machine has."""

import os
import re
import shutil
import warnings
from importlib.util import find_spec

import torch

from medgan_core.errors import ConfigError
from medgan_core.study_sections import DEVICES

CPU = torch.device("cpu")


def choose(name: str, setting: str) -> torch.device:
    """The device of this name: "auto", "cpu", "cuda" or "cuda:N"; auto is a GPU where torch sees one.

    Raises ConfigError naming the `setting` for any other name, and where a GPU is asked for that torch does
    not see: nothing may begin on another device than the one that a person chose.
    """
    seen = _gpus()
    if asked := re.fullmatch(DEVICES, name):
        if name == "auto":
            return torch.device("cuda" if seen else "cpu")
        # Not torch's own index, which is a byte: it takes 999 for -25.
        if name == "cpu" or int((asked[2] or ":0")[1:]) < seen:
            return torch.device(name)
    there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(seen))])
    raise ConfigError(
        setting, name, f'"auto", or what torch sees on this machine: {there}; mind driver and permissions'
    )


def check_compiler(device: torch.device) -> None:
    """Raises ConfigError where torch.compile lacks what it needs: a C++ compiler, or Triton on a GPU."""
    if device.type == "cuda":
        missing, name = find_spec("triton") is None, "the package triton"
    else:
        missing, name = shutil.which(os.environ.get("CXX", "g++")) is None, "the C++ compiler g++ (or $CXX)"
    if missing:
        raise ConfigError("one_shot.compile", True, f"{name} on this machine; install it, or leave this out")


def device_name(device: torch.device) -> str:
    """The device as a person knows it."""
    if device.type != "cuda":
        return f"CPU, {torch.get_num_threads()} threads"
    facts = torch.cuda.get_device_properties(device)
    return f"GPU {facts.name}, {facts.total_memory / 2**30:.0f} GiB"


def _gpus() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of drivers
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
