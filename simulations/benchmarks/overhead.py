"""What a deployed round takes beyond Flower's own floor, measured round by round beside an empty ClientApp.

One federation of real processes with TLS and node authentication. Before each training round its request is
echoed by the same nodes, twice. The second echo and the round are timed alike: from the last reply of what
came before, with which every SuperNode begins to sleep for 3 s, to their own last reply. What the coordinator
itself needs between two rounds is hidden in that sleep as far as it is not longer.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from client.diary import Diary
from client.folder import SiteFolder
from medgan_core.config import Study
from medgan_core.errors import RoundError
from medgan_core.messages import Phase
from medgan_core.record import make_folder, write_json
from server.folder import CoordinatorFolder
from server.planning import decided
from simulations.benchmarks.echo_server import MARKS
from simulations.benchmarks.performance import rewrite
from simulations.benchmarks.two_hospitals import two_hospitals
from simulations.federation import Say, Stage, finish, under_way
from simulations.hospitals import Launch

BAR_SECONDS = 0.5
_SLEEP_SECONDS = 3.0
"""How long a SuperNode of Flower 1.41 waits after a reply before it asks for the next message."""
_LARGE = (
    "evaluation.synthetic_images=16",
    "one_shot.iterations=1",
    "one_shot.batch=2",
    "training.discriminator_steps=1",
    "training.batch=2",
    "training.latent_size=102",
    "training.generator_width=128",
    "training.discriminator_width=64",
)
_APPS = {
    "medgan_server_app.py": "from simulations.benchmarks.echo_server import app\n",
    "medgan_client_app.py": "from simulations.benchmarks.echo_node import app\n",
}


@dataclass(frozen=True)
class Times:
    """Seconds of one round: of the echo, of ours, of the trainer's own work in it (the slower site's).

    `between` is what the coordinator needed after the last reply of the round before, before this request.
    """

    round: int
    echo: float
    ours: float
    work: float
    between: float

    @property
    def overhead(self) -> float:
        """Ours without the work, beyond the echo; and what of `between` no SuperNode sleeps through."""
        return self.ours - self.work - self.echo + max(0.0, self.between - _SLEEP_SECONDS)


def large_study(rounds: int, overrides: Sequence[str] = ()) -> Study:
    """The phantoms at two hospitals with networks of 20 MB, and as little work as a study can ask for."""
    return two_hospitals([*_LARGE, f"rounds={rounds}", *overrides])


def overhead(study: Study, say: Say) -> dict[str, Any]:
    """Play a federation and measure its training rounds; medians, and every round."""
    study = decided(study)
    with TemporaryDirectory(prefix="o-") as out:
        with under_way(study, Path(out), Launch(), say, _add_echoes) as (stage, run):
            finish(stage, run, say)
        marks = [json.loads(line) for line in (run.run.path / MARKS).read_text().splitlines()]
        notes = [work_of(stage.site(name), run.run.name) for name in stage.names]
        work = {number: max(seconds[number] for seconds in notes) for number in notes[0]}
        payload = max(sizes(stage.site(stage.names[0]), run.run.name))
    return told(times(marks, work), payload, study.sites.count)


def _add_echoes(stage: Stage) -> None:
    """Put the components that echo before they work into the app that the coordinator ships."""
    for name, text in _APPS.items():
        path = CoordinatorFolder.open(stage.coordinator).app / name
        path.write_text(f'"""For a benchmark."""\n\n{text}\n__all__ = ["app"]\n')


def work_of(site: Path, run: str) -> dict[int, float]:
    """Seconds that a trainer computed in each training round, by its own log."""
    notes = [n.facts for n in Diary(SiteFolder(site).log).notes() if n.kind == "answered"]
    return {
        f["round"]: float(f["seconds"]) for f in notes if (f["run"], f["phase"]) == (run, str(Phase.TRAIN))
    }


def sizes(site: Path, run: str) -> list[int]:
    """Bytes of each answer of a site, by its own log."""
    notes = [n.facts for n in Diary(SiteFolder(site).log).notes() if n.kind == "answered"]
    return [int(facts["bytes"]) for facts in notes if facts["run"] == run]


def times(marks: Iterable[Mapping[str, Any]], work: Mapping[int, float]) -> tuple[Times, ...]:
    """The rounds of a coordinator's marks that have an echo and a round before them.

    The first training round is left out: the trainers warm up in it.
    """
    begun, prepared, echoed, answered = ({m["round"]: m["when"] for m in marks_of(marks, w)} for w in _KINDS)
    return tuple(
        Times(
            number,
            echoed[number] - prepared[number],
            answered[number] - echoed[number],
            work[number],
            begun[number] - answered[number - 1],
        )
        for number in sorted(echoed)
        if number - 1 in echoed and number in answered and number in work
    )


_KINDS = ("begun", "prepared", "echoed", "answered")


def marks_of(marks: Iterable[Mapping[str, Any]], what: str) -> list[Mapping[str, Any]]:
    """The marks of one kind; of a round with several the last one counts."""
    return [mark for mark in marks if mark["what"] == what]


def told(rounds: Sequence[Times], payload: int, sites: int) -> dict[str, Any]:
    """Medians and single rounds, for JSON. Raises RoundError where none was measured."""
    if not rounds:
        raise RoundError("no round could be measured: ask for more rounds")
    names = ("echo", "ours", "work", "between", "overhead")
    rows = [asdict(one) | {"overhead": one.overhead} for one in rounds]
    rows = [{name: round(value, 3) for name, value in row.items()} for row in rows]
    medians = {name: round(median(row[name] for row in rows), 3) for name in names}
    return {"payload_bytes": payload, "sites": sites, "bar": BAR_SECONDS, "median": medians, "rounds": rows}


def keep(path: Path, body: Mapping[str, Any]) -> None:
    """Write the figures as JSON, and print them."""
    make_folder(path.parent)
    write_json(path, body)
    rewrite(path.parent)
    table = Table(title=f"seconds of a round of {body['payload_bytes'] / 1e6:.1f} MB, {body['sites']} sites")
    names = list(body["rounds"][0])
    for name in names:
        table.add_column(name, justify="right")
    for row in [*body["rounds"], {"round": "median", **body["median"]}]:
        table.add_row(*(str(row[name]) for name in names))
    Console().print(table)
