"""Time and memory of one private discriminator step, beside a plain one and other ways to make it private.

Each measurement runs in a fresh process with one thread of torch and an allocator that gives no memory back:
page faults would be most of what is measured otherwise.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table

from medgan_core.errors import MedGANError
from medgan_core.memory import SETTINGS
from medgan_core.record import make_folder, write_json
from simulations.benchmarks.performance import rewrite
from simulations.benchmarks.steps import METHODS, Setting, Step

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BATCHES = (64, 256)
_APART = "engine-contract-noise"
_WARM = 2
_UNTUNED = "engine-default-malloc"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Speed:
    """Milliseconds of one step on `batch` reals and as many fakes: of the processor, and on the clock.

    `ratio` and `least_ratio` are of processor time to that of the plain step, by medians and by minima.
    """

    method: str
    batch: int
    processor: float
    least_processor: float
    clock: float
    least_clock: float
    ratio: float
    least_ratio: float


@dataclass(frozen=True)
class Memory:
    """MiB resident at most in steps on `batch` reals and as many fakes, and before the first of them.

    `ratio` is that of the peak to the plain step's.
    """

    method: str
    batch: int
    before: float
    peak: float
    ratio: float


def speed(batches: Sequence[int] = BATCHES, rounds: int = 15) -> list[Speed]:
    """Every method in turn, `rounds` times over.

    The one with the contract's noise has a process to itself: its second thread would be counted elsewhere.
    So has ours without the memory settings that our commands start with.
    """
    together = [name for name in METHODS if name != _APART]
    rows = []
    for batch in batches:
        times: dict[str, list[list[float]]] = {}
        for names in (together, [_APART]):
            times |= _child(f"times({batch}, {rounds}, {names})")
        (times[_UNTUNED],) = _child(f"times({batch}, {rounds}, ['engine'])", tuned=False).values()
        rows += [_speed(name, batch, times[name], times["plain"]) for name in times]
    return rows


def memory(batches: Sequence[int] = BATCHES, steps: int = 3) -> list[Memory]:
    """Every method in a process of its own."""
    rows = []
    for batch in batches:
        peaks = {name: _child(f"peak({batch}, {steps}, {name!r})") for name in METHODS}
        most = peaks["plain"][1]
        rows += [Memory(name, batch, before, peak, peak / most) for name, (before, peak) in peaks.items()]
    return rows


def show(rows: Sequence["DataclassInstance"], console: Console) -> None:
    """Print the rows as a table, their fields as its columns."""
    table = Table()
    for field in fields(rows[0]):
        table.add_column(field.name.replace("_", " "), justify="left" if field.type is str else "right")
    for row in rows:
        cells = asdict(row)
        table.add_row(*(_cell(name, value) for name, value in cells.items()))
    console.print(table)


def keep(path: Path, rows: Sequence[Speed] | Sequence[Memory]) -> None:
    """Write the rows, renew the page of the folder, and print them."""
    write(path, rows)
    rewrite(path.parent)
    show(rows, Console())


def write(path: Path, rows: Sequence[Speed] | Sequence[Memory]) -> None:
    """Keep the rows and what they were measured on as JSON."""
    make_folder(path.parent)
    machine = {"torch": torch.__version__, "processor": torch.backends.cpu.get_cpu_capability()}
    write_json(path, machine | {"rows": [asdict(row) for row in rows]})


def times(batch: int, rounds: int, names: Sequence[str]) -> dict[str, list[list[float]]]:
    """Seconds of each step by name, [[processor, clock], …]; runs in this process."""
    torch.set_num_threads(1)
    steps = {name: _step(name, batch) for name in names}
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(_WARM + rounds):
        for name, step in steps.items():
            processor, clock = time.process_time(), time.perf_counter()
            step()
            found[name].append([time.process_time() - processor, time.perf_counter() - clock])
    return {name: every[_WARM:] for name, every in found.items()}


def peak(batch: int, steps: int, name: str) -> list[float]:
    """MiB before the first step, and at most until the last; runs in this process."""
    torch.set_num_threads(1)
    step = _step(name, batch)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    for _ in range(steps):
        step()
    return [before, _status("VmHWM")]


def _step(name: str, batch: int) -> Step:
    make, noise = METHODS[name]
    return make(Setting(batch, noise()))


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(name))
    return int(kilobytes) / 1024


def _child(call: str, tuned: bool = True) -> Any:
    """What a call in this file gives in a fresh process, `tuned` by the commands' memory settings or not."""
    code = f"import json; from {__name__} import *; print(json.dumps({call}))"
    inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    asked = inherited | _ONE_THREAD | (SETTINGS if tuned else {})
    done = subprocess.run(
        [sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MedGANError(f"a benchmark's process failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _speed(name: str, batch: int, own: list[list[float]], plain: list[list[float]]) -> Speed:
    processor, clock = ([1e3 * pair[i] for pair in own] for i in (0, 1))
    yardstick = [1e3 * pair[0] for pair in plain]
    return Speed(
        method=name,
        batch=batch,
        processor=median(processor),
        least_processor=min(processor),
        clock=median(clock),
        least_clock=min(clock),
        ratio=median(processor) / median(yardstick),
        least_ratio=min(processor) / min(yardstick),
    )


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if name.endswith("ratio") else f"{value:.0f}"
    return str(value)
