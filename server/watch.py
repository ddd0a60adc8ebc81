"""What a person sees of runs: a table of all of them, and a live page of one."""

import json
import time
from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from medgan_core.record import RunFolder
from server.run_file import GOING, RunFiles

_LOOK_SECONDS = 1.0
_SHOWN_ROUNDS = 8
_FIGURES = {
    "mismatch": "mismatch {:.3f}",
    "generator_loss": "G loss {:.3f}",
    "discriminator_accuracy_on_fakes": "D on fakes {:.0%}",
    "kept": "kept {}",
    "accuracy": "accuracy {:.3f}",
    "auc": "AUC {:.3f} (noisy)",
}


def table_of_runs(runs: tuple[RunFolder, ...]) -> Table:
    """All runs with their states."""
    table = Table("run", "state", "rounds", "sites", "why", box=SIMPLE_HEAD)
    for run in runs:
        files, study = RunFiles(run), run.study()
        standing = files.standing
        whole = study.round_count
        approved = sum(site.answer == "approved" for site in files.sites.values())
        done = f"{files.rounds_done} of {whole}"
        table.add_row(run.name, standing.state, done, f"{approved} of {study.sites.count}", standing.reason)
    return table


def page(run: RunFolder) -> Group:
    """One run: how it stands, its sites with ε, its last rounds with G's loss."""
    files, study = RunFiles(run), run.study()
    standing = files.standing
    budget = f"ε = {study.privacy.epsilon:g}, δ = {study.privacy.delta:g}" if study.private else "NOT PRIVATE"
    head = Text(f"{run.name}: {standing.state}. {standing.reason}\nthe study asks for {budget}")
    return Group(head, _sites(files), _rounds(files))


def watch(run: RunFolder, console: Console, *, once: bool) -> None:
    """Show a run, once, or until it is no longer going or the person has seen enough."""
    if once:
        console.print(page(run))
        return
    with Live(page(run), console=console, auto_refresh=False) as live:
        while RunFiles(run).standing.state in GOING:
            time.sleep(_LOOK_SECONDS)
            live.update(page(run), refresh=True)


def _sites(files: RunFiles) -> Table:
    table = Table("site", "answer", "last update", "ε of its account", "what it said last", box=SIMPLE_HEAD)
    for name, site in sorted(files.sites.items()):
        spent = f"{float(site.spent):.3g}" if site.round >= 0 else "–"
        last = f"round {site.round}" if site.round >= 0 else "none yet"
        table.add_row(name, site.answer or "none yet", last, spent, site.reason)
    return table


def _rounds(files: RunFiles) -> Table:
    table = Table("round", "phase", "sites", "figures", box=SIMPLE_HEAD)
    for entry in list(_history(files.run))[-_SHOWN_ROUNDS:]:
        figures = [text.format(entry[name]) for name, text in _FIGURES.items() if name in entry]
        table.add_row(str(entry["round"]), entry["phase"], str(len(entry["sites"])), ", ".join(figures))
    return table


def _history(run: RunFolder) -> Iterator[dict[str, Any]]:
    path = run.path / "rounds.jsonl"
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)
