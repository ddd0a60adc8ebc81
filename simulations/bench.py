"""Studies over several seeds, and the table of their medians: the figures of the README come from here."""

import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from medgan_core.config import Study, load_study
from medgan_core.errors import ConfigError
from medgan_core.record import make_folder, read_json, write_atomically, write_json
from simulations.course import run_study
from simulations.hospitals import Launch
from simulations.progress import Progress
from simulations.shipped import study_path

_FIGURES = ("accuracy", "balanced_accuracy", "auc")


def bench(
    study: str, overrides: Sequence[str], seeds: Sequence[int], launch: Launch, progress: Progress
) -> dict[str, Any]:
    """One row: the medians over seeds of a study on public data, with the setting that made it."""
    runs = []
    for seed in seeds:
        resolved = load_study(study_path(study), [*overrides, f"seed={seed}"])
        runs.append(_one(resolved, launch, progress) | {"secure_sum": resolved.privacy.secure_sum})
        reached = runs[-1]["public"]["train_on_synthetic"]
        progress.say(f"seed {seed}: accuracy {reached['accuracy']}, AUC {reached['auc']}")
    return {
        "study": study,
        "set": list(overrides),
        "seeds": list(seeds),
        "privacy": runs[0]["privacy"],
        "unit": runs[0]["unit"],
        "epsilon": runs[0]["epsilon"],
        "secure_sum": runs[0]["secure_sum"],
        "seconds": round(median(run["seconds"] for run in runs)),
        **{
            kind: {figure: median(float(run["public"][kind][figure]) for run in runs) for figure in _FIGURES}
            for kind in ("train_on_synthetic", "train_on_real")
        },
        "runs": [
            {figure: run["public"]["train_on_synthetic"][figure] for figure in _FIGURES} for run in runs
        ],
    }


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Put a row in place of one of the same study and setting, and write the page beside it again."""
    make_folder(path.parent)
    rows = read_json(path) if path.is_file() else []
    kept = [old for old in rows if _setting(old) != _setting(row)]
    rows = sorted([*kept, row], key=lambda r: (r["study"], str(r["epsilon"])))
    write_json(path, rows)
    write_atomically(path.with_suffix(".md"), page(rows).encode())


def _setting(row: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What makes two rows the same, in whatever order settings were given."""
    return row["study"], sorted(row["set"])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    head = "| study | privacy (unit) | accuracy | AUC | real accuracy | real AUC | seconds | seeds |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        private = row["privacy"] == "dp"
        summed = ", secure sum" if row["secure_sum"] else ""
        privacy = f"ε = {float(row['epsilon']):.1f} ({row['unit']}{summed})" if private else "**not private**"
        figures = [
            f"{row[kind][figure]:.3f}"
            for kind in ("train_on_synthetic", "train_on_real")
            for figure in ("accuracy", "auc")
        ]
        figures += [f"{row['seconds']}", f"{len(row['seeds'])}"]
        lines.append(f"| {row['study']} | {privacy} | {' | '.join(figures)} |")
    return "\n".join(lines)


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown page of results: the table, and for each row its command and its single runs."""
    lines = [
        "# Results",
        "",
        "Medians over seeds. Each row is made by the command below it, which also rewrites this page; the",
        "seconds are those of a whole run, and depend on what else the machine does.",
        "",
        table(rows),
        "",
    ]
    for row in rows:
        settings = "".join(f" --set {shlex.quote(override)}" for override in row["set"])
        lines += [f"- `medgan-sim bench {row['study']}{settings} --seeds {len(row['seeds'])}`"]
        lines += [
            f"  - seed {seed}: accuracy {float(run['accuracy']):.3f}, AUC {float(run['auc']):.3f}"
            for seed, run in zip(row["seeds"], row["runs"], strict=True)
        ]
    return "\n".join(lines) + "\n"


def _one(study: Study, launch: Launch, progress: Progress) -> dict[str, Any]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        run = run_study(study, Path(out), launch, progress)
        metrics: dict[str, Any] = read_json(run.path / "metrics.json")
    if "public" not in metrics:
        raise ConfigError(
            "data.path", study.data.path, "a public set: figures on real images may not leave else"
        )
    return metrics | {"seconds": time.monotonic() - began}
