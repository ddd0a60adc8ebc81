"""docs/performance.md: what the benchmarks of time and memory measured, made from the JSON files beside."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgan_core.record import read_json

PAGE = "performance.md"


@dataclass(frozen=True)
class Section:
    """One benchmark on the page: `file` holds its rows, `columns` are those shown, by their heading."""

    file: str
    title: str
    command: str
    words: str
    columns: Mapping[str, str]


SECTIONS = (
    Section(
        "speed.json",
        "Time of a private step",
        "medgan-sim bench speed",
        "Milliseconds of one discriminator step, convolutions of 64, 128 and 256 channels on 32×32 pixels, "
        "`batch` reals and as many fakes, one thread, all in one run. `ratio` is to the plain step, which "
        "has no privacy; all private ones add the same float32 noise but `engine-contract-noise`, whose "
        "noise is that of the contract, drawn ahead by a second thread. `opacus` is Opacus' hooks on reals "
        "and fakes, `opacus-reals` on reals alone, `vmap` is `torch.func`. `engine-default-malloc` is ours "
        "without the memory settings that our commands start with.",
        {
            "method": "method",
            "batch": "batch",
            "processor": "ms",
            "clock": "ms on the clock",
            "ratio": "ratio",
        },
    ),
    Section(
        "memory.json",
        "Memory of a private step",
        "medgan-sim bench memory",
        "MiB resident before the first of the same steps and at most in them, each in a fresh process.",
        {
            "method": "method",
            "batch": "batch",
            "before": "MiB before",
            "peak": "MiB at most",
            "ratio": "ratio",
        },
    ),
    Section(
        "matching.json",
        "Time of a matching step",
        "medgan-sim bench matching",
        "Milliseconds of one step that matches the generator to the released embedding, 128 grey images of "
        "`pixels` a side, at the shipped widths; `compiled` is `one_shot.compile`, which takes `seconds "
        "before` the first step. `ratio` is to the step in float32 that is not compiled. A private step is "
        "never compiled: the engine reads what goes through each layer in its own call.",
        {
            "pixels": "pixels",
            "precision": "precision",
            "compiled": "compiled",
            "step": "ms",
            "rate": "steps/s",
            "before": "seconds before",
            "ratio": "ratio",
        },
    ),
    Section(
        "aggregation.json",
        "The coordinator's aggregation",
        "medgan-sim bench aggregation",
        "Updates of `MiB each` from disk to the new state: memory of the process, GiB/s of the sum alone "
        "(median) and of arrival (check, digest and write of an update). `flower` is Flower's own helper and "
        "`numpy` a plain mean, both with all updates in memory; the others are ours.",
        {
            "method": "method",
            "sites": "sites",
            "megabytes": "MiB each",
            "before": "MiB before",
            "peak": "MiB at most",
            "speed": "GiB/s",
            "arrival": "GiB/s of arrival",
        },
    ),
    Section(
        "overhead.json",
        "A deployed round",
        "medgan-sim bench overhead",
        "Seconds of each round of a real federation over TLS at this payload: an empty ClientApp that echoes "
        "it, then ours with a warm trainer, whose own work is subtracted. `overhead` is ours less both.",
        {"round": "round", "echo": "echo", "ours": "ours", "work": "trainer's work", "overhead": "overhead"},
    ),
    Section(
        "ingest.json",
        "Reading DICOM",
        "medgan-sim bench ingest",
        "Slices a second of 512×512 beside a plain loop of pydicom and MONAI, worker processes running or "
        "started for it, without the text check. GDCM, which pydicom takes first, decodes an image with two "
        "threads, so that its loop has both cores too.",
        {
            "files": "files",
            "loop_per_s": "loop",
            "started_per_s": "ours",
            "ratio_started": "ratio",
            "ratio_with_start": "ratio with their start",
        },
    ),
)


def page(folder: Path) -> str:
    """The page of the JSON files in `folder`; a benchmark without a file has no section."""
    lines = [
        "# Performance",
        "",
        "Medians, each table from one run on two cores. A command rewrites its own section.",
    ]
    for section in SECTIONS:
        if (folder / section.file).is_file():
            lines += _section(section, read_json(folder / section.file))
    if (folder / "kills.png").is_file():
        lines += [
            "",
            "## Kills in every phase of a round",
            "",
            "`medgan-sim bench kills`",
            "",
            "![kills](kills.png)",
        ]
    return "\n".join(lines) + "\n"


def rewrite(folder: Path) -> None:
    """Make the page of `folder` anew."""
    (folder / PAGE).write_text(page(folder), encoding="utf-8")


def _section(section: Section, body: Mapping[str, Any]) -> list[str]:
    told = {name: value for name, value in body.items() if not isinstance(value, dict | list)}
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())
    return [
        "",
        f"## {section.title}",
        "",
        f"`{section.command}` ({machine}). {section.words}",
        "",
        *_table(section.columns, body.get("rows") or body["rounds"]),
        *_of_damaged(body.get("damaged")),
    ]


def _of_damaged(found: Mapping[str, Any] | None) -> list[str]:
    """What reading damaged files took, where it was measured (`bench ingest --damaged N`)."""
    if not found:
        return []
    return [
        "",
        f"Of {found['files']:,} files that were damaged at random (`--damaged {found['files']}`) the slowest "
        f"took {found['slowest']:.1f} s; a worker had {found['worker_peak']:.0f} MiB at most, the "
        f"reader {found['own_peak']:.0f} MiB.",
    ]


def _table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [_line(columns.values()), "|---" * len(columns) + "|"]
    return lines + [_line([_cell(row[name]) for name in columns]) for row in rows]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
