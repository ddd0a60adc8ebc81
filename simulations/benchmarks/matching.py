"""Time of one step that matches the generator to the released embedding: most of what a run takes.

By the side of the images, the precision, and with or without `one_shot.compile`, at the shipped widths and
batch, on the device that is asked for. Nothing is released here: the embedding is drawn.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from torch import optim

from medgan_core.config import Study, load_study
from medgan_core.device import check_compiler, device_name
from medgan_core.gan.steps import generator_step, labels_to_match
from medgan_core.gan.task import synthesis_of
from medgan_core.gan.tasks import make_task
from medgan_core.privacy.embedding import Embedding, Features
from medgan_core.record import make_folder, write_json
from medgan_core.seeds import Seeds
from simulations.benchmarks.engine import show
from simulations.benchmarks.performance import rewrite
from simulations.shipped import study_path

SIDES = (28, 64)
PRECISIONS = ("float32", "bfloat16")
_WARM = 2


@dataclass(frozen=True)
class Matching:
    """Milliseconds of one step on grey images of `pixels` a side, by the median, and steps a second (`rate`).

    `before` is the time of the first step less a usual one, in seconds: what it takes to compile. `ratio` is
    to the step in float32 that is not compiled, of as many pixels.
    """

    pixels: int
    precision: str
    compiled: str
    step: float
    rate: float
    before: float
    ratio: float


def matching(device: torch.device, sides: Sequence[int] = SIDES, rounds: int = 10) -> list[Matching]:
    """Each way in turn, `rounds` steps after two that do not count. Raises ConfigError without a compiler."""
    check_compiler(device)
    rows = []
    for side in sides:
        ways = {
            way: seconds(_study(side, *way), device, rounds) for way in product(PRECISIONS, (False, True))
        }
        plain = median(ways["float32", False][1:])
        rows += [_row(side, *way, found, plain) for way, found in ways.items()]
    return rows


def seconds(study: Study, device: torch.device, rounds: int) -> list[float]:
    """Seconds of the first step, and of `rounds` later ones."""
    shape = (study.data.channels, study.data.image_size, study.data.image_size)
    task, classes = synthesis_of(make_task(study, shape, study.data.classes)), len(study.data.classes)
    features, random = (
        Features.of(study.one_shot, shape, Seeds(0)).to(device),
        Seeds(0).child("drawn").generator(),
    )
    drawn = torch.randn(classes, features.size, generator=random) / features.size**0.5
    embedding = Embedding(drawn.to(device), torch.ones(classes, device=device))
    generator = task.make_generator().to(device)
    if study.one_shot.compile:
        generator.compile()
    optimizer = optim.Adam(generator.parameters(), study.one_shot.learning_rate)
    labels = labels_to_match(study.one_shot.batch, classes).to(device)
    found = []
    for _ in range(_WARM + rounds):
        began = time.perf_counter()
        generator_step(
            task,
            generator,
            None,
            optimizer,
            labels,
            random,
            anchor=lambda fakes, owned: embedding.mismatch(features(fakes), owned),
        )
        found.append(time.perf_counter() - began)
    return [found[0], *found[_WARM:]]


def _study(side: int, precision: str, compiled: bool) -> Study:
    asked = {
        "data.image_size": side,
        "training.precision": precision,
        "one_shot.compile": str(compiled).lower(),
    }
    return load_study(study_path("pneumonia"), [f"{name}={value}" for name, value in asked.items()])


def _row(side: int, precision: str, compiled: bool, found: list[float], plain: float) -> Matching:
    usual = median(found[1:])
    return Matching(
        pixels=side,
        precision=precision,
        compiled="yes" if compiled else "no",
        step=1e3 * usual,
        rate=1 / usual,
        before=max(found[0] - usual, 0.0),
        ratio=usual / plain,
    )


def keep(path: Path, rows: Sequence[Matching], device: torch.device) -> None:
    """Write the rows and what they were measured on, renew the page of the folder, and print them."""
    make_folder(path.parent)
    machine = {"torch": torch.__version__, "device": device_name(device)}
    write_json(path, machine | {"rows": [asdict(row) for row in rows]})
    rewrite(path.parent)
    show(rows, Console())
