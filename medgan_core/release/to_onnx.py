"""A release's generator as ONNX, for programs without torch: the same images to 1e-4.

torch's exporter by tracing: it needs the package onnx alone, where the newer one needs two more, and the
networks have no branches that a trace would miss.
"""

import json
import tempfile
import warnings
from pathlib import Path

import torch

from medgan_core.errors import InputError
from medgan_core.record import write_atomically
from medgan_core.release.bundle import Release
from medgan_core.release.card import ReleaseCard
from medgan_core.release.ports import Applied, Ports, ports

_OPSET = 17
_EXAMPLES = 2


def write_onnx(release: Release, out: Path) -> None:
    """Write one file: inputs by the names of `Ports` and output "pred" [N, c, h, w] in [-1, 1]; N is free.

    Raises InputError where the package onnx is missing, or the file cannot be written.
    """
    if out.is_dir():
        raise InputError(f"OUT {out.name} is a folder: ONNX needs the name of a file")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, onnx_bytes(release))


def onnx_bytes(release: Release) -> bytes:
    """The model with what its card says in its metadata."""
    try:
        import onnx
    except ImportError:
        raise InputError(
            "--to: the package onnx is missing; pip install 'medgan-federated[export]' brings it"
        ) from None
    task = release.facts.make_task()
    model = onnx.load_from_string(_traced(Applied(task, release.generator()).eval(), ports(task)))
    onnx.helper.set_model_props(model, model_facts(release.card))
    model.producer_name = "medgan-federated"
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def model_facts(card: ReleaseCard) -> dict[str, str]:
    """What travels within the model, where its card may get lost."""
    return {
        "medgan.content": card.content,
        "medgan.privacy": card.privacy,
        "medgan.epsilon": f"{card.epsilon:.6g}",
        "medgan.delta": f"{card.delta:g}",
        "medgan.unit": card.unit,
        "medgan.study": card.study,
        "medgan.run": card.run,
        "medgan.classes": json.dumps(card.data.classes),
        "medgan.generator_sha256": card.generator_sha256,
        "medgan.forbidden_use": " ".join(card.forbidden_use),
        "medgan.expires": card.expires,
    }


def _traced(network: Applied, port: Ports) -> bytes:
    examples = tuple(
        torch.zeros(_EXAMPLES, *shape, dtype=torch.int64 if name == "labels" else torch.float32)
        for name, shape in port.inputs.items()
    )
    names = [*port.inputs, "pred"]
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # That it traces, that it is the older one, and what it could fold: nothing a user can act on.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            examples,
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=names[:-1],
            output_names=names[-1:],
            dynamic_axes={name: {0: "N"} for name in names},
        )
        return path.read_bytes()
