"""Memory and speed of aggregation, beside numpy's mean of all updates in memory and Flower's own FedAvg.

Each measurement runs in a fresh process. An update has eight float32 tensors of equal size. Ours is what the
coordinator does: each update is checked and put by on disk as it comes, and the round's are summed at the
end; its speed is that of the sum, as for the others, and what comes before is a figure of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medgan_core.errors import MedGANError
from medgan_core.messages import METRICS, Array, Event, Groups, Phase, Receipt, Request, Update
from medgan_core.record import make_folder, write_json
from medgan_core.sections import AggregationConfig
from server.aggregate import check_update
from server.robust import combined
from server.spill import Spill
from simulations.benchmarks.performance import rewrite

TENSORS = 8
LARGE = (32, 64)
"""Sites, and MiB of the update of each."""
MANY = ((10, 5), (1000, 5))
_GROUP = "generator"


@dataclass(frozen=True)
class Aggregation:
    """MiB resident before the first update and at most; GiB of updates a second, medians over processes.

    `speed` is that of the sum, `arrival` that of checking updates and putting them by (0 where nothing is).
    `slowest` and `fastest` are the sum's in single processes, `by_processor` its GiB in a second of one core.
    """

    method: str
    sites: int
    megabytes: int
    before: float
    peak: float
    speed: float
    slowest: float
    fastest: float
    by_processor: float
    arrival: float


def aggregation(
    large: tuple[int, int] = LARGE, many: Sequence[tuple[int, int]] = MANY, repeats: int = 7
) -> list[Aggregation]:
    """Every method with few large updates, in turn; then ours with few and with many small ones."""
    asked = [(method, *large) for method in METHODS] + [("mean", *each) for each in many]
    found: dict[tuple[str, int, int], list[list[float]]] = {each: [] for each in asked}
    for number in range(repeats):
        for each in asked:
            if number < 3 or each[1:] == large:  # memory hardly varies, and many sites take long
                found[each].append(_child(f"measured{each}"))
    return [_row(*each, runs) for each, runs in found.items()]


def measured(method: str, sites: int, megabytes: int) -> list[float]:
    """MiB before and at most; GiB/s of the sum by clock and by processor, and of arrival. In this process."""
    run = METHODS[method]
    random = np.random.default_rng(0)
    size = megabytes * 2**20 // 4 // TENSORS
    incoming = {f"w{i}": random.standard_normal(size, np.float32) for i in range(TENSORS)}
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    arrived, summed, spent = run({_GROUP: incoming}, sites)
    gigabytes, peak = sites * megabytes / 1024, _status("VmHWM")
    return [before, peak, gigabytes / summed, gigabytes / spent, gigabytes / arrived if arrived else 0.0]


def _ours(rule: str, incoming: Groups, sites: int) -> tuple[float, float, float]:
    request = Request("run", 1, Phase.TRAIN, "plan", incoming)
    asked, arrived, updates = AggregationConfig.model_validate({"rule": rule}), 0.0, []
    with tempfile.TemporaryDirectory() as folder, Spill(Path(folder) / "arrivals") as spill:
        for number in range(sites):
            update = _update(request, number)
            began = time.perf_counter()
            check_update(update, request, incoming)
            updates.append(spill.keep(update))
            arrived += time.perf_counter() - began
            del update  # as the coordinator does, or two would be in memory
        weights = {update.site: 1.0 for update in updates}
        return arrived, *_timed(lambda: combined(asked, updates, weights, incoming))


def _numpy(incoming: Groups, sites: int) -> tuple[float, float, float]:
    """The mean as one would write it."""
    updates = [_numbers(incoming, number) for number in range(sites)]
    names = list(incoming[_GROUP])
    return 0.0, *_timed(lambda: {n: np.mean([update[n] for update in updates], axis=0) for n in names})


def _flower(incoming: Groups, sites: int) -> tuple[float, float, float]:
    from flwr.app import Array as Packed
    from flwr.app import ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    records = [
        RecordDict(
            {
                "arrays": ArrayRecord({n: Packed(a) for n, a in _numbers(incoming, number).items()}),
                "metrics": MetricRecord({"num-examples": 1.0}),
            }
        )
        for number in range(sites)
    ]
    return 0.0, *_timed(lambda: aggregate_arrayrecords(records, "num-examples"))


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of the processor, of all cores together."""
    began, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - spent


METHODS: dict[str, Callable[[Groups, int], tuple[float, float, float]]] = {
    "numpy": _numpy,
    "flower": _flower,
    **{rule: partial(_ours, rule) for rule in ("mean", "median", "trimmed_mean", "krum")},
}
"""Seconds of arrival, of the sum, and of the processor in it: two in memory, and the coordinator's rules."""


def _numbers(incoming: Groups, number: int) -> dict[str, Array]:
    """What a site made of the weights: others for each site, and quick to make."""
    return {name: array + np.float32(number * 1e-3) for name, array in incoming[_GROUP].items()}


def _update(request: Request, number: int) -> Update:
    site = f"site-{number:04d}"
    receipt = Receipt(
        site=site,
        ledger=site,
        run=request.run,
        round=request.round,
        phase=request.phase,
        request_digest=request.digest(),
        account="training",
        event=Event(1.0, 0.05, 1),
        spent=1.0,
        delta=1e-5,
        sequence=1,
        head="",
    )
    metrics = dict.fromkeys(METRICS[request.phase], 0.0)
    groups = {_GROUP: _numbers(request.groups, number)}
    update = Update(site, request.round, request.phase, groups, metrics, receipt)
    return update.sealed(replace(receipt, update_digest=update.digest()))


def _row(method: str, sites: int, megabytes: int, runs: Sequence[Sequence[float]]) -> Aggregation:
    before, peak, speed, by_processor, arrival = ([run[i] for run in runs] for i in range(5))
    return Aggregation(
        method=method,
        sites=sites,
        megabytes=megabytes,
        before=median(before),
        peak=median(peak),
        speed=median(speed),
        slowest=min(speed),
        fastest=max(speed),
        by_processor=median(by_processor),
        arrival=median(arrival),
    )


def keep(path: Path, rows: Sequence[Aggregation]) -> None:
    """Write the rows and what they were measured on as JSON, renew the page of the folder, and print them."""
    make_folder(path.parent)
    cores = len(os.sched_getaffinity(0))
    write_json(path, {"numpy": np.__version__, "cores": cores, "rows": [asdict(row) for row in rows]})
    rewrite(path.parent)
    table = Table()
    for field in fields(Aggregation):
        table.add_column(field.name, justify="left" if field.name == "method" else "right")
    for row in rows:
        cells = asdict(row).values()
        table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console().print(table)


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(name))
    return int(kilobytes) / 1024


def _child(call: str) -> Any:
    """What a call in this file gives in a fresh process."""
    code = f"import json; from {__name__} import *; print(json.dumps({call}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MedGANError(f"a benchmark's process failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])
