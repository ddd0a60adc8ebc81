"""All attacks one after the other, and their figures as one JSON file."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medgan_core.record import make_folder, write_atomically, write_json
from simulations.benchmarks.attacks.finding import found
from simulations.benchmarks.attacks.inverting import Inverted, inverted
from simulations.benchmarks.attacks.page import page
from simulations.benchmarks.attacks.planting import everywhere, most_alike, one_patient_each, patterns
from simulations.benchmarks.attacks.plots import Panel, picture
from simulations.benchmarks.attacks.setting import Level, Released, sites_of, small_study
from simulations.hospitals import Launch

Say = Callable[[str], None]
LEVELS = tuple(Level(name) for name in ("off", "10", "1"))
_PRIOR = Level("10")
_SHOWN = 8


def measure(path: Path, launch: Launch, command: str, say: Say) -> None:
    """Play every attack, then write the figures to `path` and the page and its picture beside it.

    Raises InputError for images that are not the published ones.
    """
    began, busy = time.monotonic(), time.process_time()
    rows, released, panels = _planted(launch, say)
    site = sites_of(small_study(), launch)[1]  # where nothing was planted
    tried: list[Inverted] = []
    for level in LEVELS:
        tried.append(inverted(released, site, level))
        say(f"gradient inversion, {level}: {_told(tried[-1].rows())}")
    canaries = found(released, LEVELS, launch)
    for row in canaries:
        say(f"canary: {row}")
    body = {
        "command": command,
        "seconds": round(time.monotonic() - began),
        "processor_seconds": round(time.process_time() - busy),
        "inversion": [row for one in tried for row in one.rows()],
        "canary": canaries,
        "planted": rows,
    }
    make_folder(path.parent)
    write_json(path, body)
    write_atomically(path.with_suffix(".png"), picture(tried, panels))
    write_atomically(path.with_suffix(".md"), page(body, path.with_suffix(".png").name).encode())


def _planted(launch: Launch, say: Say) -> tuple[list[dict[str, Any]], Released, list[Panel]]:
    """The rows, the generator of the private run with patients' patterns, and images to show."""
    rows, panels, released = [], [], {}
    for level in LEVELS:
        site, patients = everywhere(level, launch), one_patient_each(level, launch)
        released[level] = patients.released
        for one, reference in ((site, patients), (patients, site)):
            rows.append(one.row(reference.images))
            say(f"planted: {rows[-1]}")
            shown = most_alike(one.images, patterns(one.numbers[0])[0], _SHOWN)
            panels.append((f"{one.name}, {level}", shown))
    return rows, released[_PRIOR], panels


def _told(rows: list[dict[str, Any]]) -> str:
    return ", ".join(f"{row['attack']} {row['psnr']} dB (mean image {row['mean_image']})" for row in rows)
