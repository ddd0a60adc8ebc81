"""DICOM files damaged at random, the same for a seed: bits flipped, ends cut off, two files spliced."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom.data

from medgan_core.data.dicom.pool import Pool
from medgan_core.data.dicom.work import Settings, Task

_LARGEST = 300_000
_HEADER = 3000


@dataclass(frozen=True)
class Damage:
    """What became of damaged files. `outcomes` counts reasons and "read"; memory in MiB, `slowest` in s."""

    files: int
    outcomes: dict[str, int]
    slowest: float
    worker_peak: float
    own_peak: float


def originals() -> list[bytes]:
    """The files that pydicom bundles, up to 300 kB, in the order of their names."""
    folder = Path(str(pydicom.data.__file__)).parent / "test_files"
    found = (path.read_bytes() for path in sorted(folder.rglob("*.dcm")) if path.stat().st_size < _LARGEST)
    return [raw for raw in found if raw]


def damaged(count: int, seed: int) -> Iterator[bytes]:
    """So many damaged files."""
    random, bases = np.random.default_rng(seed), originals()
    for number in range(count):
        raw = bases[random.integers(len(bases))]
        yield (_flipped, _cut, _spliced, _flipped_header)[number % 4](raw, bases, random)


def read_damaged(count: int, seed: int, workers: int = 2) -> Damage:
    """Read so many of them, header and pixels, each file timed by itself: one worker has one at a time."""
    outcomes: Counter[str] = Counter()
    slowest = worker_peak = 0.0
    with Pool(Settings(frames="all", side=64), workers) as pool:
        list(pool.run(Task(b"", header=True) for _ in range(workers)))  # all have started
        for raw in damaged(count, seed):
            began = time.monotonic()
            outcomes[_outcome(pool, raw)] += 1
            slowest = max(slowest, time.monotonic() - began)
            worker_peak = max(worker_peak, *map(_peak, pool.pids()))
    return Damage(count, dict(outcomes.most_common()), slowest, worker_peak, _peak(os.getpid()))


def _peak(pid: int) -> float:
    """In MiB, of this process's own program; what the system counts of resources holds its parent's, too."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kilobytes) / 1024


def _outcome(pool: Pool, raw: bytes) -> str:
    ((_, answer),) = pool.run([Task(raw, header=True)])
    if answer.header is not None:
        frames = tuple(frame.frame for frame in answer.header.frames)
        repairs = answer.repairs
        ((_, answer),) = pool.run([Task(raw, pixels=True, frames=frames)])
        if answer.refusal is None:
            return "repaired" if answer.repairs or repairs else "read"
    return str(answer.refusal)


def _flipped(raw: bytes, bases: list[bytes], random: np.random.Generator, end: int | None = None) -> bytes:
    changed = bytearray(raw)
    for place in random.integers(0, min(len(raw), end or len(raw)), int(random.integers(1, 65))):
        changed[place] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _flipped_header(raw: bytes, bases: list[bytes], random: np.random.Generator) -> bytes:
    return _flipped(raw, bases, random, _HEADER)


def _cut(raw: bytes, bases: list[bytes], random: np.random.Generator) -> bytes:
    return raw[: int(random.integers(len(raw)))]


def _spliced(raw: bytes, bases: list[bytes], random: np.random.Generator) -> bytes:
    other = bases[random.integers(len(bases))]
    return raw[: int(random.integers(len(raw)))] + other[int(random.integers(len(other))) :]
