"""A release: a generator with its card, receipts and provenance, in one folder that proves itself.

    generator.safetensors  generator.json  card.json  card.md  receipts.json  study.toml
    configs/metadata.json  configs/inference.json  manifest.json  manifest.sig
    report.html  report.pdf  samples/0000.dcm …  (after a release check)

`manifest.json` is written last and holds the SHA-256 of all others; `manifest.sig`, where the coordinator has
a key, is its signature over them. `configs/` make the folder a MONAI bundle. Nothing in it is pickle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_serializer
from safetensors import numpy as safetensors
from torch import Tensor, nn

from medgan_core.config import MappingConfig, Study, Task, TrainingConfig
from medgan_core.data.source import Card
from medgan_core.errors import ConfigError, InputError, MedGANError, RefusedError, ReleaseError
from medgan_core.gan.task import GanTask, PatientTask, synthesis_of
from medgan_core.gan.tasks import TASKS, make_task
from medgan_core.messages import Array, Arrays, Receipt
from medgan_core.privacy.plan import PrivacyPlan
from medgan_core.record import make_folder, write_atomically, write_json
from medgan_core.release.card import ReleaseCard
from medgan_core.release.card_text import markdown
from medgan_core.release.files import (
    MANIFEST,
    parse,
    read_files,
    receipts_of,
    study_of,
    weights_of,
    write_manifest,
)
from medgan_core.release.labels import label_array, label_counts
from medgan_core.release.monai_configs import configs
from medgan_core.release.ports import ports
from medgan_core.release.purposes import check_command, command_of, input_channels
from medgan_core.release.signature import sign_manifest
from medgan_core.release.spending import check_receipts
from medgan_core.release.swap import swapped_in
from medgan_core.seeds import Seeds
from medgan_core.tensors import load, seeded

_BATCH = 64
_REBUILD = {"loss", "latent_size", "generator_width", "discriminator_width", "spatial_noise"}
Wanted = int | np.integer[Any] | Mapping[str, int] | Tensor | NDArray[Any]
Side = Literal[28, 32, 64, 128]
Channels = Annotated[int, Field(ge=1, le=64)]


class GeneratorFacts(BaseModel):
    """What it takes to build the generator again: generator.json.

    `image_shape` is (c, h, w); its outputs lie in `value_range`; `sha256` is of generator.safetensors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    task: Task
    image_shape: tuple[Channels, Side, Side]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    latent_size: int
    value_range: tuple[Literal[-1], Literal[1]] = (-1, 1)
    training: TrainingConfig
    mapping: MappingConfig = MappingConfig()
    sha256: str

    @field_serializer("training")
    def _needed(self, training: TrainingConfig) -> dict[str, Any]:
        return training.model_dump(mode="json", include=_REBUILD)

    @classmethod
    def of(cls, study: Study, card: Card, digest: str) -> "GeneratorFacts":
        """The facts of a study's generator for the images of this card."""
        return cls.model_validate(
            {
                "task": study.task,
                "image_shape": card.image_shape,
                "classes": card.classes,
                "latent_size": study.training.latent_size,
                "training": study.training,
                "mapping": study.mapping,
                "sha256": digest,
            }
        )

    def make_task(self) -> GanTask:
        """The task whose `make_generator` these weights fit."""
        return TASKS[self.task](self.training, self.mapping, self.image_shape, self.classes)


@dataclass(frozen=True, eq=False)
class Release:
    """A release that is accounted for; made by `build_release` and `Release.open`.

    Raises RefusedError where there are no receipts, or where they do not cover every round of the
    card's plan.
    """

    folder: Path
    card: ReleaseCard
    study: Study
    receipts: tuple[Receipt, ...]
    facts: GeneratorFacts
    weights: Arrays

    def __post_init__(self) -> None:
        check_receipts(self.receipts, self.card.plan, self.study.quorum)

    @classmethod
    def open(cls, folder: Path | str) -> "Release":
        """Read a release and check its hashes.

        Raises InputError where the folder is no release, ReleaseError naming the file that fails.
        """
        folder = Path(folder)
        files = read_files(folder)
        card = parse(ReleaseCard, "card.json", files)
        facts = parse(GeneratorFacts, "generator.json", files)
        try:
            return cls(folder, card, study_of(files), receipts_of(files), facts, weights_of(files))
        except RefusedError as error:
            raise ReleaseError(f"receipts.json: {error}") from error
        except ConfigError as error:
            raise ReleaseError(f"card.json: its plan cannot be: {error}") from error

    def generator(self) -> nn.Module:
        """The generator in evaluation mode. ReleaseError where the weights do not fit generator.json."""
        return fitted_generator(self.facts.make_task(), self.weights)

    @property
    def channels(self) -> tuple[str, ...]:
        """What each channel shows, where they are no colours: modalities or slices; else ()."""
        return self.study.data.channel_names

    def task(self) -> PatientTask:
        """What the release does to an image. Raises InputError for one that draws images from noise."""
        task = self.facts.make_task()
        if not isinstance(task, PatientTask):
            command = command_of(self.facts.task)
            raise InputError(
                f"a release of task {self.facts.task} works on no image: use medgan {command}, or "
                "Release.sample"
            )
        return task

    @torch.no_grad()
    def apply(self, inputs: Tensor) -> Tensor:
        """What the network makes of inputs [n, i, h, w] in [-1, 1], as large as the images of training.

        `i` is `purposes.input_channels`: of restoration the image and its code (`gan/corruptions.py`), of
        others the image. The result is a mask (the probability from -1 to 1), the restored or translated
        image, or a heat map. Raises InputError for another shape, and for a release that draws images.
        """
        task, shape = self.task(), self.facts.image_shape
        expected = (input_channels(self.facts.task, shape), *shape[1:])
        if inputs.ndim != 4 or tuple(inputs.shape[1:]) != expected:
            raise InputError(f"inputs {list(inputs.shape)}: expected [n, {', '.join(map(str, expected))}]")
        return task.apply(self.generator(), inputs.float())

    def labels(self, wanted: Wanted) -> NDArray[np.int64]:
        """Labels [N] int64: as given, by counts of classes, or a number shared out by the card's proportions.

        Without proportions all classes are as frequent. Raises InputError for what cannot be drawn.
        """
        check_command(self.facts.task, "generate")
        classes = self.facts.classes
        if isinstance(wanted, int | np.integer | Mapping):
            wanted = wanted if isinstance(wanted, Mapping) else int(wanted)
            return label_array(label_counts(wanted, classes, self.card.proportions))
        labels = np.asarray(wanted)
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
            raise InputError(f"labels {labels.dtype} {labels.shape}: expected whole numbers [N], N ≥ 1")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise InputError(
                f"labels from {labels.min()} to {labels.max()}: expected 0 to {len(classes) - 1}"
            )
        return labels.astype(np.int64)

    @torch.no_grad()
    def sample(
        self, wanted: Wanted, seed: int = 0, first: int = 0
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images uint8, [N, H, W] or [N, H, W, C], and their labels int64 [N]; see `labels` for `wanted`.

        C channels are colours, or what `channels` names: modalities, or the slices of a volume.

        The same labels and seed in [0, 2**63) give the same bytes. Images are numbered from `first` on, and
        an image depends on its number, its label and the seed alone: one of many can be drawn by itself.
        """
        labels = self.labels(wanted)
        if first < 0:
            raise InputError(f"first image {first}: expected 0 or more")
        channels, height, width = self.facts.image_shape
        shape = (height, width) if channels == 1 else (height, width, channels)
        try:
            images = np.empty((len(labels), *shape), np.uint8)
        except MemoryError:
            raise InputError(f"{len(labels)} images do not fit into memory: draw fewer at a time") from None
        task, generator = synthesis_of(self.facts.make_task()), self.generator()
        last = first + len(labels)
        for batch in range(first // _BATCH, (last - 1) // _BATCH + 1):
            start = batch * _BATCH
            low, high = max(first, start), min(last, start + _BATCH)
            random = Seeds(seed).child("sample", batch).generator()
            # Always a full batch, so that an image does not depend on which others are drawn.
            padded = np.pad(labels[low - first : high - first], (low - start, start + _BATCH - high))
            fakes = task.sample(generator, torch.from_numpy(padded), random)[low - start : high - start]
            images[low - first : high - first] = _to_uint8(fakes).reshape(high - low, *shape)
        return images, labels


def build_release(
    folder: Path,
    study: Study,
    card: Card,
    plan: PrivacyPlan,
    generator: Arrays,
    receipts: Sequence[Receipt],
    proportions: Sequence[float] = (),
    metrics: Mapping[str, Any] | None = None,
    verify_keys: Mapping[str, str] | None = None,
    signing_key: bytes | None = None,
) -> Release:
    """Write a release and open it. `generator` is a state dict, BatchNorm's buffers included.

    `verify_keys` are the sites' Ed25519 public keys in hex, where their receipts are signed; `signing_key` is
    the coordinator's private one, which signs the manifest.

    The folder appears at once and complete; an earlier release in its place is replaced, anything else that
    is not empty is left alone with InputError. Raises RefusedError where the receipts do not account for the
    plan, ReleaseError where the weights do not fit the task, MedGANError where the disk says no.
    """
    check_receipts(receipts, plan, study.quorum)
    if folder.exists() and not _replaceable(folder):
        raise InputError(f"{folder.name} exists and is no release: move it away or choose another folder")
    task = make_task(study, card.image_shape, card.classes)
    weights = safetensors.save(_fitting(task, generator))
    digest = sha256(weights).hexdigest()
    facts = GeneratorFacts.of(study, card, digest)
    keys = verify_keys or {}
    told = ReleaseCard.of(study, card, plan, receipts, proportions, metrics or {}, digest, keys)
    try:
        with swapped_in(folder) as part:
            write_atomically(part / "generator.safetensors", weights)
            write_json(part / "generator.json", facts.model_dump(mode="json"))
            write_card(part, told, facts)
            write_json(part / "receipts.json", [receipt.to_json() for receipt in receipts])
            write_atomically(part / "study.toml", _without_places(study).to_toml().encode())
            write_manifest(part)
            if signing_key is not None:
                sign_manifest(part, signing_key)
    except OSError as error:
        raise MedGANError(
            f"{folder.name} could not be saved: {error.strerror}; mend it and resume"
        ) from error
    return Release.open(folder)


def write_card(folder: Path, card: ReleaseCard, facts: GeneratorFacts) -> None:
    """Write the card, its words, and the configurations that are made of it."""
    write_json(folder / "card.json", card.to_json())
    write_atomically(folder / "card.md", markdown(card).encode())
    make_folder(folder / "configs")
    for name, body in configs(card, ports(facts.make_task())).items():
        write_json(folder / "configs" / name, body)


def fitted_generator(task: GanTask, weights: Arrays) -> nn.Module:
    """The task's generator with these weights, in evaluation mode.

    Raises ReleaseError for a missing, extra or misshapen tensor, or one that is not finite.
    """
    network = seeded(task.make_generator, 0)
    expected = network.state_dict()
    for name in sorted(set(expected) ^ set(weights)):
        what = "missing" if name in expected else "extra"
        raise ReleaseError(f"generator.safetensors: tensor {name} is {what}, by generator.json")
    for name, tensor in expected.items():
        array = weights[name]
        if array.shape != tuple(tensor.shape) or torch.from_numpy(np.array(array)).dtype != tensor.dtype:
            raise ReleaseError(
                f"generator.safetensors: tensor {name} is {array.dtype} {list(array.shape)}, "
                f"by generator.json {tensor.dtype} {list(tensor.shape)}"
            )
        if not np.isfinite(array).all():
            raise ReleaseError(f"generator.safetensors: tensor {name} is not finite")
    load(network, weights)
    return network.eval()


def _fitting(task: GanTask, generator: Arrays) -> dict[str, Array]:
    """Contiguous copies in the task's shapes: a counter of one step may have travelled as [1]."""
    shapes = {name: tuple(t.shape) for name, t in seeded(task.make_generator, 0).state_dict().items()}
    arrays = {name: np.array(array, order="C") for name, array in generator.items()}
    for name, array in arrays.items():
        if array.size == 1 and shapes.get(name) == ():
            arrays[name] = array.reshape(())
    fitted_generator(task, arrays)
    return arrays


def _replaceable(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return MANIFEST in names or not names


def _without_places(study: Study) -> Study:
    """The study without the folders of the machine that it ran on."""
    places = {
        name: Path(place).name
        for name in ("path", "patients", "labels")
        if Path(place := getattr(study.data, name)).is_absolute()
    }
    return study.model_copy(update={"data": study.data.model_copy(update=places)})


def _to_uint8(fakes: Tensor) -> NDArray[np.uint8]:
    """Images [b, c, h, w] in [-1, 1] to bytes [b, h, w, c]."""
    if not fakes.isfinite().all():
        raise ReleaseError("generator.safetensors: the generator draws values that are not finite")
    pixels: NDArray[np.uint8] = ((fakes + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return pixels
