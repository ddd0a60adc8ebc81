"""A study that runs in seconds on images made up here, and sources that repeat themselves."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medgan_core.codec import flatten, unflatten
from medgan_core.config import Study, parse_study
from medgan_core.privacy.noise import SecretRandom, SeededRandom

TINY: dict[str, Any] = {
    "name": "tiny",
    "strategy": "refine",
    "rounds": 1,
    "data.kind": "npz",
    "data.path": "tiny.npz",
    "data.patients": "patients.csv:patient_key",
    "data.classes": ["normal", "pneumonia"],
    "data.modality": "DX",
    "sites.count": 2,
    "sites.alpha": 100.0,
    "sites.nominal_patients": 20,
    "privacy.noise_multiplier": 4.0,
    "privacy.one_shot_noise_multiplier": 2.0,
    "privacy.sampling_rate": 0.5,
    "one_shot.frequencies": 8,
    "one_shot.iterations": 2,
    "one_shot.batch": 8,
    "training.precision": "float32",
    "training.latent_size": 4,
    "training.generator_width": 4,
    "training.discriminator_width": 4,
    "training.discriminator_steps": 2,
    "training.batch": 4,
    "evaluation.epsilon": 2.0,
    "evaluation.synthetic_images": 16,
    "evaluation.reports": False,
    "evaluation.attack": False,
}


def tiny_study(**changes: Any) -> Study:
    """The tiny study with dotted keys, written with two underscores."""
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return parse_study(unflatten(TINY | changed))


def overrides(**changes: Any) -> list[str]:
    """The arguments that bring a study file to what `tiny_study` gives."""
    flat = flatten(tiny_study(**changes).to_dict())
    return [part for key, value in flat.items() for part in ("--set", f"{key}={json.dumps(value)}")]


def write_set(folder: Path, patients: int = 40) -> Path:
    """Two bright or dark squares a patient; folder with tiny.npz and patients.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    labels = np.arange(patients).repeat(2) % 2
    images = random.integers(0, 60, (2 * patients, 28, 28))
    images[:, 8:20, 8:20] += (120 * labels)[:, None, None]
    np.savez(folder / "tiny.npz", images=images.astype(np.uint8), labels=labels)
    rows = "".join(f"p{index}\n" for index in np.arange(patients).repeat(2))
    (folder / "patients.csv").write_text(f"patient_key\n{rows}")
    return folder


@dataclass(frozen=True)
class Seeded:
    """For tests alone: each site and round its own predictable source, the same in every process."""

    seed: int = 0

    def __call__(self, site: str, round_number: int) -> SecretRandom:
        return SeededRandom(self.seed + 1000 * round_number + sum(site.encode()))


def environment() -> dict[str, str]:
    """For processes of the tests: one thread, nothing sent anywhere."""
    quiet = {"OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    return os.environ | quiet | {"COLUMNS": "200"}


def command(name: str, *arguments: object) -> list[str]:
    """A console script of this environment with its arguments."""
    return [str(Path(sys.executable).parent / name), *map(str, arguments)]


def call(name: str, *arguments: object, timeout: float = 240) -> "subprocess.CompletedProcess[str]":
    """Run a console script to its end."""
    return subprocess.run(
        command(name, *arguments), capture_output=True, text=True, timeout=timeout, env=environment()
    )


def study_file(folder: Path, **changes: Any) -> Path:
    """The tiny study as a file."""
    path = folder / "tiny.toml"
    path.write_text(tiny_study(**changes).to_toml())
    return path


def entries(run: Path, site: str = "site-1") -> list[str]:
    """The kinds of entry in a site's ledger, as exported."""
    exported = json.loads((run / "ledger.json").read_text())
    return [entry["kind"] for entry in exported[site]["entries"]]
