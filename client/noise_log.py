"""What a site keeps of its own noise: a line for each round in its own log, and the stop until a person acts.

Nothing of it leaves: it is a function of the noise that hides patients.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.diary import Diary
from client.folder import SiteFolder, on_disk, replace_private
from client.site import Note
from medgan_core.errors import NoiseError
from medgan_core.messages import Request
from medgan_core.privacy.audit.checks import Outcome
from medgan_core.privacy.noise_watch import STOP, NoiseReading, chi_square_p_value, deviation_bound

KIND = "noise"
"""Of the diary's lines."""


def in_diary(folder: SiteFolder, diary: Diary, delta: float) -> Note:
    """Keep readings in a hospital's diary; one that cannot be stops the site until `lift`."""

    def note(request: Request, reading: NoiseReading) -> None:
        facts = facts_of(request, reading, delta)
        diary.add(KIND, **facts)
        if reading.p_value < STOP:
            replace_private(folder.noise_alarm, json.dumps(facts | {"why": reading.reason()}).encode())

    return note


def in_file(path: Path, delta: float) -> Note:
    """Keep readings as JSON lines: that of a simulated site."""

    def note(request: Request, reading: NoiseReading) -> None:
        with on_disk(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts_of(request, reading, delta)) + "\n")

    return note


def facts_of(request: Request, reading: NoiseReading, delta: float) -> dict[str, Any]:
    """A line: which round, and what its noise was."""
    place = {"run": request.run, "round": request.round, "phase": str(request.phase)}
    return place | reading.to_json(delta)


def check_alarm(folder: SiteFolder) -> None:
    """NoiseError where this site has stopped."""
    if folder.noise_alarm.exists():
        raise NoiseError(
            "noise: this site has stopped, since the noise of a round was not what was charged (see "
            f"{folder.noise_alarm.name}); find out why, then: medgan-client audit --resume"
        )


def lift(folder: SiteFolder, diary: Diary, by: str) -> bool:
    """Go on after a stop, in the name of a person; whether there was one."""
    if not folder.noise_alarm.exists():
        return False
    diary.add("resumed", by=by)
    with on_disk(folder.noise_alarm):
        folder.noise_alarm.unlink()
    return True


def noise_outcome(lines: Sequence[Mapping[str, Any]]) -> tuple[Outcome, ...]:
    """The rounds of a log together: many together show what each alone is too short for."""
    count = sum(int(line["coordinates"]) for line in lines)
    if not count:
        return ()
    chi_square = sum(float(line["chi_square"]) for line in lines)
    odd = sum(bool(line["repeated"]) or line["calls"] != line["steps"] for line in lines)
    p_value = 0.0 if odd else chi_square_p_value(chi_square, count)
    text = (
        f"{len(lines)} rounds: deviation at most {deviation_bound(chi_square, count):.3f} of what is charged"
    )
    return (Outcome("noise of the rounds", "failed" if p_value < STOP else "passed", text, p_value),)
