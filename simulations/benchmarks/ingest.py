"""Speed of reading DICOM, beside the loop over pydicom and MONAI that one would write oneself.

Both end with the same: slices of 512×512 in a lung window, averaged to 64×64, in [-1, 1]. The loops take
turns in one run; the ratio is that of the medians. The start of our processes is told apart, and MONAI's
import is counted for neither. On a machine that others use too the times of the processor say more: with
two free cores the ratio would be twice the loop's time over ours.

Of the decoders of JPEG 2000 that are there pydicom takes GDCM, which has two threads decode every image: the
loop then uses two cores as well. Beside it stands the loop with pylibjpeg, whose decoder has one.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pydicom
import torch
from pydicom.uid import JPEG2000Lossless
from rich.console import Console
from rich.table import Table

from medgan_core.config import DataConfig, PhantomsConfig
from medgan_core.data.dicom.cache import Cache
from medgan_core.data.dicom.ingest import ingest
from medgan_core.data.dicom.pool import Pool
from medgan_core.data.dicom.report_card import ReportCard
from medgan_core.data.dicom.sources import find
from medgan_core.data.dicom.terms import Ingested, Terms
from medgan_core.data.dicom.text import can_look, has_text
from medgan_core.data.dicom.windows import CT_WINDOWS
from medgan_core.data.dicom.work import Settings, Task
from medgan_core.patients import Pseudonym
from medgan_core.record import make_folder, write_json
from medgan_core.seeds import Seeds
from simulations.benchmarks.performance import rewrite
from simulations.phantoms import make_phantoms

_PIXELS, _CACHED, _LOOKS = 512, 10_000, 6
_DATA = DataConfig(kind="dicom", path=".", image_size=64, slices_per_patient=0)
_SIDE = int(_DATA.image_size)
_KEY = bytes(32)


def measure(slices: int, repeats: int, damaged: int) -> dict[str, Any]:
    """All figures, as JSON holds them."""
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder) / "plain", Path(folder) / "packed"
        make_phantoms(plain, PhantomsConfig(patients=2 * slices, max_images=1, pixels=_PIXELS), 1, Seeds(0))
        files = sorted(plain.rglob("*.dcm"))
        for file in files[slices:]:
            file.unlink()
        _pack(files[:slices], packed)
        rows = [
            _row("uncompressed", plain, repeats),
            _row("JPEG 2000 lossless, loop with pylibjpeg", packed, repeats, "pylibjpeg"),
            _row("JPEG 2000 lossless, loop with GDCM", packed, repeats, "gdcm"),
        ]
        found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "rows": rows}
        found["start_of_processes_s"] = _start(files[0])
        found["text_check_s"] = _text(files[:_LOOKS])
        found["cache"] = _cache(Path(folder) / "cache")
    if damaged:
        found["damaged"] = _damaged(damaged)
    return found


def _damaged(count: int) -> dict[str, Any]:
    """In a process of its own: what this one has taken of memory would be counted for the workers too."""
    lines = (
        "import json; from dataclasses import asdict",
        "from simulations.benchmarks.damage import read_damaged",
        f"print(json.dumps(asdict(read_damaged({count}, seed=0))))",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _pack(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir()
    for number, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        dataset.compress(JPEG2000Lossless)
        dataset.save_as(folder / f"{number}.dcm")


def _row(name: str, folder: Path, repeats: int, decoder: str = "") -> dict[str, Any]:
    files = sorted(folder.rglob("*.dcm"))
    loop, ours = _monai_loop(decoder), _ours(folder)
    loop(files[:4])
    kinds: dict[str, Callable[[], float]] = {
        "loop": lambda: _timed(lambda: loop(files)),
        "ingest": lambda: _timed(ours),
        "started": partial(_running, files),
    }
    wall: dict[str, list[float]] = {kind: [] for kind in kinds}
    processor: dict[str, list[float]] = {kind: [] for kind in (*kinds, "start")}
    for _ in range(repeats):
        for kind, work in kinds.items():
            began = _processor()
            wall[kind].append(work())
            processor[kind].append(_processor() - began)
        began = _processor()
        _running(files[:0])
        processor["start"].append(_processor() - began)
    return _figures(name, len(files), wall, processor)


def _figures(
    name: str, slices: int, wall: dict[str, list[float]], processor: dict[str, list[float]]
) -> dict[str, Any]:
    """Speeds in slices/s, times of the processor in ms a slice; the start is taken off where it says so."""
    speed = {kind: slices / median(values) for kind, values in wall.items()}
    used = {kind: 1000 * median(values) / slices for kind, values in processor.items()}
    ours = used["started"] - used["start"]
    return {
        "files": name,
        "slices": slices,
        "loop_per_s": round(speed["loop"], 1),
        "ingest_per_s": round(speed["ingest"], 1),
        "started_per_s": round(speed["started"], 1),
        "ratio_with_start": round(speed["ingest"] / speed["loop"], 2),
        "ratio_started": round(speed["started"] / speed["loop"], 2),
        "loop_processor_ms": round(used["loop"], 2),
        "ingest_processor_ms": round(ours, 2),
        "ratio_of_two_free_cores": round(2 * used["loop"] / ours, 2),
    }


def _processor() -> float:
    """Seconds of the processor that this process and its ended children have used."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


def _monai_loop(decoder: str) -> Callable[[Sequence[Path]], torch.Tensor]:
    """The loop with one of pydicom's decoders, "" for the one that pydicom takes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.data import PydicomReader
        from monai.transforms import Compose, LoadImage, Resize, ScaleIntensityRange

    class Reader(PydicomReader):
        def read(self, data: Any, **asked: Any) -> Any:
            dataset = super().read(data, **asked)
            dataset.pixel_array_options(decoding_plugin=decoder)
            return dataset

    center, width = CT_WINDOWS["lung"]
    read = Compose(
        [
            LoadImage(reader=Reader(), image_only=True, ensure_channel_first=True),
            ScaleIntensityRange(center - width / 2, center + width / 2, -1.0, 1.0, clip=True),
            Resize((_SIDE, _SIDE), mode="area"),
        ]
    )
    return lambda files: torch.stack([read(file).as_tensor() for file in files])


def _ours(folder: Path) -> Callable[[], object]:
    terms = Terms(pseudonym=lambda text: Pseudonym.of(_KEY, text))
    return lambda: ingest(find(folder), _DATA, terms)


def _running(files: Sequence[Path]) -> float:
    """Seconds for header and pixels of all, by processes that run already: what a large set comes to."""
    with Pool(Settings(side=_SIDE)) as pool:
        list(pool.run(Task(b"", header=True) for _ in range(8)))
        began = time.monotonic()
        list(pool.run(Task(file, header=True) for file in files))
        list(pool.run(Task(file, pixels=True, frames=(0,)) for file in files))
        return time.monotonic() - began


def _start(file: Path) -> float:
    def once() -> None:
        with Pool(Settings(side=_SIDE)) as pool:
            list(pool.run([Task(file, header=True)] * 8))

    return round(median(_timed(once) for _ in range(3)), 2)


def _text(files: Sequence[Path]) -> float | None:
    if not can_look():
        return None
    return round(median(_timed(partial(_look, file)) for file in files), 2)


def _look(file: Path) -> bool:
    return has_text(pydicom.dcmread(file).pixel_array)


def _cache(folder: Path) -> dict[str, Any]:
    """Seconds until 10,000 images are there again, and the sum of one of them read."""
    images = torch.rand(_CACHED, 1, _SIDE, _SIDE)
    keys = tuple(Pseudonym.of(_KEY, str(i)) for i in range(_CACHED))
    card = ReportCard(_CACHED, _CACHED, 0, {}, {}, {}, (), False)
    found = Ingested(images, ("a",) * _CACHED, keys, (True,) * _CACHED, keys, card)
    seconds: dict[str, Any] = {"images": _CACHED}
    for name, key in (("plain_s", None), ("encrypted_s", _KEY)):
        cache = Cache(folder / name, key)
        cache.keep("a", found)
        seconds[name] = round(median(_timed(partial(cache.load, "a")) for _ in range(3)), 3)
    return seconds


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def keep(path: Path, figures: dict[str, Any]) -> None:
    """Write the figures as JSON, renew the page of the folder, and print them."""
    make_folder(path.parent)
    write_json(path, figures)
    rewrite(path.parent)
    table = Table(*figures["rows"][0])
    for row in figures["rows"]:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    Console().print({key: value for key, value in figures.items() if key != "rows"})
