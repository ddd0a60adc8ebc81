"""Where this hospital's networks train: as site.toml chooses, on what this machine has."""

import torch

from medgan_core.errors import ConfigError


def choose(name: str) -> torch.device:
    """The device of this name: "auto", "cpu", "cuda" or "cuda:N"; auto is a GPU where torch sees one.

    Raises ConfigError where a GPU is asked for that torch does not see: no round may begin on another device
    than the one that a person chose.
    """
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if seen else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= seen:
        there = ["cpu", *(f"cuda:{number}" for number in range(seen))]
        raise ConfigError(
            "site.toml: trainer.device",
            name,
            f'"auto", or what torch sees on this machine: {", ".join(there)}; mind driver and permissions',
        )
    return device


def device_name(device: torch.device) -> str:
    """The device as a person knows it."""
    if device.type != "cuda":
        return f"CPU, {torch.get_num_threads()} threads"
    facts = torch.cuda.get_device_properties(device)
    return f"GPU {facts.name}, {facts.total_memory / 2**30:.0f} GiB"
