"""A MONAI bundle that runs without MedGAN: the generator as ONNX, configured with numpy and onnxruntime.

    configs/metadata.json  configs/inference.json  models/model.onnx  docs/README.md

The release itself is a bundle too, which checks its own hashes and draws the bytes of `medgan generate`; this
one is for places where only MONAI is.
"""

from pathlib import Path
from typing import Any

from medgan_core.errors import InputError
from medgan_core.record import make_folder, write_atomically, write_json
from medgan_core.release.bundle import Release
from medgan_core.release.card import ReleaseCard
from medgan_core.release.card_text import markdown
from medgan_core.release.monai_configs import OUTPUT, metadata
from medgan_core.release.ports import Ports, ports
from medgan_core.release.swap import swapped_in
from medgan_core.release.to_onnx import onnx_bytes

_NEEDED = {"onnxruntime": "1.20"}
_SESSION = (
    "$onnxruntime.InferenceSession(@bundle_root + '/models/model.onnx', providers=['CPUExecutionProvider'])"
)


def write_bundle(release: Release, out: Path) -> None:
    """Write a bundle into a new or empty folder. InputError where there is something else."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"OUT {out.name} is not empty: choose a new folder for the bundle")
    card, port = release.card, ports(release.facts.make_task())
    told = metadata(card, port) | {"required_packages_version": _NEEDED}
    with swapped_in(out) as part:
        for name in ("configs", "models", "docs"):
            make_folder(part / name)
        write_json(part / "configs" / "metadata.json", told)
        write_json(part / "configs" / "inference.json", standalone(card, port))
        write_atomically(part / "models" / "model.onnx", onnx_bytes(release))
        write_atomically(part / "docs" / "README.md", markdown(card).encode())


def standalone(card: ReleaseCard, port: Ports) -> dict[str, Any]:
    """The configuration: each entry is an expression that MONAI evaluates."""
    labels = ", labels=@labels" if port.draws else ""
    fed = ", ".join(f"{name!r}: @{name}" for name in port.inputs)
    return {
        "imports": ["$import numpy", "$import onnxruntime"],
        "bundle_root": ".",
        **(_drawn(card, port) if port.draws else _given()),
        "output": OUTPUT,
        "privacy": card.privacy,
        "session": _SESSION,
        "pred": f"$@session.run(None, {{{fed}}})[0]",
        "run": [f"$numpy.savez(@output, images=@pred, privacy=@privacy{labels})"],
    }


def _drawn(card: ReleaseCard, port: Ports) -> dict[str, Any]:
    """Labels by the classes' shares, as a release draws them, and numbers from noise."""
    classes = len(card.data.classes)
    shares = list(card.proportions) or [1 / classes] * classes
    [numbers] = port.inputs["latent"]
    return {
        "number": 16,
        "seed": 0,
        "random": "$numpy.random.default_rng(@seed)",
        "labels": f"$@random.choice({classes}, size=@number, p={shares})",
        "latent": f"$@random.standard_normal((@number, {numbers}), dtype=numpy.float32)",
    }


def _given() -> dict[str, Any]:
    return {"input": "images.npz", "images": "$numpy.load(@input)['images'].astype(numpy.float32)"}
