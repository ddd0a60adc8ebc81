"""A release as a MONAI bundle: its metadata, and the configuration that `python -m monai.bundle run` takes.

https://docs.monai.io/en/stable/mb_specification.html. Of what that asks for one file is not here, a pickled
models/model.pt: the weights are safetensors. A configuration of MONAI is a program; `medgan verify` compares
it with the one that is made here.
"""

from typing import Any

from medgan_core.release.card import ReleaseCard
from medgan_core.release.ports import Ports

_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
OUTPUT = "$@bundle_root + '/../synthetic.npz'"
"""Beside the bundle and not in it: a release with a file too many is refused."""


def configs(card: ReleaseCard, port: Ports) -> dict[str, dict[str, Any]]:
    """The files below configs/ by name."""
    return {"metadata.json": metadata(card, port), "inference.json": inference(port)}


def metadata(card: ReleaseCard, port: Ports) -> dict[str, Any]:
    """What metadata.json says, by the specification and of this card alone."""
    packages = card.environment.get("packages", {})
    promise = (
        f"ε = {card.epsilon:.4g}, δ = {card.delta:g}, unit {card.unit}" if card.private else "no privacy"
    )
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"run {card.run}"},
        "name": card.study,
        "monai_version": packages.get("monai", "unknown"),
        "pytorch_version": packages.get("torch", "unknown"),
        "numpy_version": packages.get("numpy", "unknown"),
        "required_packages_version": {
            name: packages[name] for name in ("medgan-federated", "safetensors") if name in packages
        },
        "task": f"{card.task} of synthetic medical images",
        "description": f"Generator trained by {len(card.sites)} sites together. {card.privacy}: {promise}.",
        "authors": card.contact or "not stated",
        "copyright": f"licence: {card.licence}",
        "data_source": card.data.source or "not stated",
        "data_type": card.data.modality,
        "image_classes": ", ".join(card.data.classes),
        "intended_use": " ".join(card.intended_use),
        "forbidden_use": " ".join(card.forbidden_use),
        "expires": card.expires,
        "network_data_format": {
            "inputs": {name: _input(card, name, shape) for name, shape in port.inputs.items()},
            "outputs": {"pred": _image(card, port.output)},
        },
    }


def inference(port: Ports) -> dict[str, Any]:
    """What inference.json says: draw `number` images, or work on those of `input`, and write `output`."""
    given: dict[str, Any] = {"number": 16, "seed": 0} if port.draws else {"input": "images.npz"}
    words = "@number, @seed" if port.draws else "@input"
    verb = "draw" if port.draws else "work_on"
    return {
        "imports": [f"$from medgan_core.release.monai_run import {name}" for name in ("network", verb)],
        "bundle_root": ".",
        **given,
        "output": OUTPUT,
        "network_def": "$network(@bundle_root)",
        "run": [f"${verb}(@bundle_root, {words}, @output)"],
    }


def _input(card: ReleaseCard, name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    if name == "images":
        return _image(card, (shape[0], shape[1], shape[2]))
    latent = name == "latent"
    return {
        "type": "tuples",
        "format": "latent" if latent else "classes",
        "modality": "n/a",
        "num_channels": shape[0] if latent else 1,
        "spatial_shape": [],
        "dtype": "float32" if latent else "int64",
        "value_range": [] if latent else [0, len(card.data.classes) - 1],
        "is_patch_data": False,
        "channel_def": {"0": "standard normal numbers"} if latent else {"0": ", ".join(card.data.classes)},
    }


def _image(card: ReleaseCard, shape: tuple[int, int, int]) -> dict[str, Any]:
    return {
        "type": "image",
        "format": "magnitude",
        "modality": card.data.modality,
        "num_channels": shape[0],
        "spatial_shape": list(shape[1:]),
        "dtype": "float32",
        "value_range": [-1, 1],
        "is_patch_data": False,
        "channel_def": {str(number): "image" for number in range(shape[0])},
    }
