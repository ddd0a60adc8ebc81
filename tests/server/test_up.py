"""The steward: what it tells Flower when files change or processes die. Flower itself is in the scenarios."""

import time
from pathlib import Path
from typing import Any

import pytest

from medgan_core.flower_app import write_app
from medgan_core.record import RunFolder
from server.enrolment import enrol, revoke
from server.folder import CoordinatorFolder
from server.run_file import RunFiles, Submission
from server.settings import Settings
from server.start import resume, start, stop
from server.superlink import FlowerError
from server.up import Steward
from tests.server.sites import TestSite
from tests.simulations.making import study_file


class Flower:
    """Hears what Flower would be told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, ...]] = []
        self.failing = False

    def _hear(self, *said: str) -> str:
        if self.failing:
            raise FlowerError(said[0], "not there")
        self.said.append(said)
        return str(len(self.said))

    def start_run(self, run: str) -> str:
        return self._hear("start", run)

    def stop_run(self, number: str) -> None:
        self._hear("stop", number)

    def register(self, key: Path, name: str) -> str:
        return self._hear("register", name, key.read_text().split()[0])

    def unregister(self, node: str) -> None:
        self._hear("unregister", node)


class Desk:
    def __init__(self, path: Path) -> None:
        self.folder = CoordinatorFolder.create(path / "c", Settings(restarts=1))
        write_app(self.folder.app)
        for number in (1, 2):
            card = path / f"{number}.json"
            TestSite(number, path / "home", path).card.write(card)
            enrol(self.folder, card)
        self.flower, self.lines = Flower(), list[str]()
        self.steward = Steward(self.folder, self.flower, self.lines.append)  # type: ignore[arg-type]
        self.study = study_file(path)

    def heard(self) -> list[tuple[str, ...]]:
        """What one look told Flower."""
        before = len(self.flower.said)
        self.steward.look()
        return self.flower.said[before:]

    def begun(self, **changes: Any) -> RunFiles:
        """A run that was submitted, and its process began and died."""
        files = RunFiles(start(self.folder, self.study))
        self.steward.look()
        self.die(files)
        return files

    def die(self, files: RunFiles) -> None:
        submitted = files.submitted
        assert submitted is not None
        with files.serve(submitted.flower_run):
            pass


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_nodes_follow_enrolment(desk: Desk) -> None:
    assert desk.heard() == [(("register", f"site-{n}", "ecdsa-sha2-nistp384")) for n in (1, 2)]
    assert desk.heard() == []
    revoke(desk.folder, "site-1")
    assert desk.heard() == [("unregister", "1")]
    assert "site-1: its node is let in no longer" in desk.lines


def test_a_new_run_is_started_once(desk: Desk) -> None:
    desk.steward.look()
    run = start(desk.folder, desk.study)
    assert desk.heard() == [("start", run.name)]
    assert desk.heard() == []  # its process is being started
    files = RunFiles(run)
    with files.serve("3"):
        assert desk.heard() == []


def test_a_run_whose_process_died_is_taken_up_again_then_paused(desk: Desk) -> None:
    files = desk.begun()
    name = files.run.name
    assert desk.heard() == [("stop", "3"), ("start", name)]
    desk.die(files)
    assert [said[0] for said in desk.heard()] == ["stop"]
    assert files.standing.state == "paused"
    assert files.standing.reason == "its process died 2 times in round 0: see logs/superexec.log"
    assert desk.heard() == []
    resume(desk.folder, name)
    assert desk.heard() == [("start", name)]


def test_progress_makes_earlier_deaths_forgotten(desk: Desk) -> None:
    files = desk.begun()
    for number in range(1, 5):
        (files.run.path / "rounds.jsonl").write_text("{}\n" * number)
        assert ("start", files.run.name) in desk.heard()
        desk.die(files)
    assert files.standing.state != "paused"


def test_a_process_that_never_began_is_waited_for_and_then_replaced(desk: Desk) -> None:
    desk.steward.look()
    files = RunFiles(start(desk.folder, desk.study))
    desk.steward.look()
    files.submit(Submission("3", 0, 0, time.time() - 1000))
    assert desk.heard() == [("stop", "3"), ("start", files.run.name)]


def test_stopping_a_paused_run_starts_it_once_more_to_say_farewell(desk: Desk) -> None:
    files = desk.begun()
    files.stand("paused", "why")
    assert desk.heard() == []
    stop(desk.folder, files.run.name)
    assert desk.heard() == [("start", files.run.name)]
    files.stand("stopped")
    desk.die(files)
    assert desk.heard() == []


def test_sites_that_were_away_at_the_end_are_told_at_the_next_up_and_from_time_to_time(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = desk.begun()
    files.end("finished", "release written", ["site-2"])
    told = ("start", files.run.name)
    assert desk.heard() == [told]
    with files.serve("9"):
        assert desk.heard() == []
    assert desk.heard() == []  # an hour has not passed
    later = time.monotonic() + 3600
    monkeypatch.setattr("server.up.time.monotonic", lambda: later)
    assert desk.heard() == [told]
    desk.steward = Steward(desk.folder, desk.flower, desk.lines.append)  # type: ignore[arg-type]
    assert desk.heard() == [told]
    files.now_told(["site-2"])
    desk.steward = Steward(desk.folder, desk.flower, desk.lines.append)  # type: ignore[arg-type]
    assert desk.heard() == []


def test_a_site_that_was_revoked_is_told_nothing_more(desk: Desk) -> None:
    files = desk.begun()
    files.end("stopped", "stopped by the coordinator", ["site-2"])
    revoke(desk.folder, "site-2")
    assert ("start", files.run.name) not in desk.heard()


def test_a_run_that_can_go_on_says_no_farewell(desk: Desk) -> None:
    files = desk.begun()
    files.end("finished", "release written", ["site-2"])
    files.stand("paused")
    assert desk.heard() == []


@pytest.mark.parametrize("state", ["finished", "stopped", "failed", "paused"])
def test_what_is_over_or_paused_is_left_alone(desk: Desk, state: Any) -> None:
    desk.steward.look()
    files = RunFiles(start(desk.folder, desk.study))
    files.stand(state, "")
    assert desk.heard() == []


def test_flower_s_no_is_said_and_tried_again(desk: Desk) -> None:
    run: RunFolder = start(desk.folder, desk.study)
    desk.flower.failing = True
    with pytest.raises(FlowerError, match="flwr register: not there"):
        desk.steward.look()
    desk.flower.failing = False
    assert desk.heard()[-1] == ("start", run.name)
