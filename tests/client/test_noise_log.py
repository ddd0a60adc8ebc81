"""A site reads its own noise, keeps what it read, and stops where it is not what was charged."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from client.audit_command import since_resumed
from client.cli import app
from client.diary import Diary
from client.folder import SiteFolder
from client.noise_log import KIND, in_file, noise_outcome
from client.reasons import reason_for_coordinator
from client.trainer import Trainer
from medgan_core.errors import MedGANError, NoiseError
from medgan_core.messages import Update
from medgan_core.privacy.noise import SeededRandom
from tests.client.making import Fresh, opened
from tests.client.making import request as asked
from tests.client.sites import approve_all, make_site, proposal, request, trainer


class Weak(SeededRandom):
    """Half of the noise that is asked for."""

    def normal(self, count: int) -> Tensor:
        return super().normal(count) / 2


class Stuck(SeededRandom):
    """The same noise in every step."""

    def normal(self, count: int) -> Tensor:
        return SeededRandom(7).normal(count)


class Telling(SeededRandom):
    """Remembers all that it drew."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.drawn: list[Tensor] = []

    def normal(self, count: int) -> Tensor:
        self.drawn.append(super().normal(count))
        return self.drawn[-1]


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    return make_site(tmp_path / "site")


def weak(site: str, number: int) -> SeededRandom:
    return Weak(number)


@pytest.fixture
def desk(folder: SiteFolder) -> Iterator[Trainer]:
    """A trainer with half of the noise, whose person has approved run-1."""
    with trainer(folder, weak) as made:
        made.handle(proposal(folder))
        approve_all(folder)
        yield made


def notes(folder: SiteFolder, kind: str) -> list[dict[str, object]]:
    return [note.facts for note in Diary(folder.log).notes() if note.kind == kind]


def refused(desk: Trainer, number: int) -> MedGANError:
    with pytest.raises(NoiseError) as caught:
        desk.handle(request(number))
    return caught.value


def test_every_round_leaves_a_line_in_the_diary_and_none_in_what_leaves(folder: SiteFolder) -> None:
    with trainer(folder) as made:
        made.handle(proposal(folder))
        approve_all(folder)
        answer = made.handle(request(0))
        made.handle(request(0))
    (line,) = notes(folder, KIND)
    assert (line["run"], line["round"], line["phase"], line["calls"]) == ("run-1", 0, "one_shot", 1)
    assert isinstance(answer, Update)
    assert not answer.metrics
    told = json.dumps(answer.receipt.to_json())
    assert not any(word in told for word in ("chi_square", "repeated", "epsilon_seen"))
    assert set(answer.groups) == {"statistics"}


def test_the_extra_draws_are_in_nothing_that_leaves(tmp_path: Path) -> None:
    source = Telling(1)
    with opened(tmp_path, random_for=lambda site, number: source) as made:
        made.worker.approve()
        released = made.worker.answer(asked(0)).groups["statistics"]["embedding"]
    (drawn,) = source.drawn
    assert len(drawn) > released.size
    unused = drawn[released.size :] * 5.0
    apart = torch.from_numpy(released).flatten()[:, None] - unused[None]
    assert float(apart.abs().min()) > 0


def test_too_little_noise_stops_the_site_and_nothing_leaves(desk: Trainer, folder: SiteFolder) -> None:
    error = refused(desk, 0)
    assert "medgan-client audit" in str(error)
    assert reason_for_coordinator(error) == "not approved"
    assert not list(folder.runs.glob("**/*one_shot*"))
    assert [line["why"] for line in notes(folder, "refused")] == [str(error)]
    assert desk.ledger.sealed("run-1", 0, request(0).phase, request(0).digest()) is None


def stopped(folder: SiteFolder) -> None:
    """A round with half of the noise, and the trainer's end."""
    with trainer(folder, weak) as made:
        made.handle(proposal(folder))
        approve_all(folder)
        refused(made, 0)


def test_a_site_that_stopped_stays_so_with_better_luck_and_another_trainer(folder: SiteFolder) -> None:
    stopped(folder)
    with trainer(folder) as again:
        assert "--resume" in str(refused(again, 0))


def test_the_alarm_is_for_the_site_s_eyes_alone(desk: Trainer, folder: SiteFolder) -> None:
    refused(desk, 0)
    assert folder.noise_alarm.stat().st_mode & 0o777 == 0o600
    assert not folder.too_open()
    assert "of what was charged" in json.loads(folder.noise_alarm.read_text())["why"]


def test_noise_that_repeats_stops_a_round_of_training(tmp_path: Path) -> None:
    fresh = Fresh()
    with opened(tmp_path, random_for=lambda site, number: Stuck(1) if number else fresh(site, 0)) as made:
        made.worker.approve()
        made.worker.answer(asked(0))
        with pytest.raises(NoiseError, match="used before"):
            made.worker.answer(asked(1))
        assert made.kinds[-1] == "charge"  # spent, and open


def test_a_simulated_site_keeps_its_lines_in_a_file(tmp_path: Path) -> None:
    with opened(tmp_path, random_for=Fresh()) as made:
        made.worker.note = in_file(tmp_path / "noise.jsonl", 1e-5)
        made.worker.approve()
        for number in (0, 1):
            made.worker.answer(asked(number))
    lines = [json.loads(line) for line in (tmp_path / "noise.jsonl").read_text().splitlines()]
    assert [line["phase"] for line in lines] == ["one_shot", "train"]
    (outcome,) = noise_outcome(lines)
    assert outcome.verdict == "passed"


def test_rounds_that_hide_too_little_each_show_it_together() -> None:
    line = {"coordinates": 256, "chi_square": 256 * 0.85, "repeated": 0, "calls": 1, "steps": 1}
    (one,), (many,) = noise_outcome([line]), noise_outcome([line] * 30)
    assert (one.verdict, many.verdict) == ("passed", "failed")
    (odd,) = noise_outcome([line | {"calls": 2}])
    assert (odd.verdict, odd.p_value) == ("failed", 0.0)
    assert noise_outcome([]) == ()


def test_a_person_lets_a_site_go_on_after_an_audit(folder: SiteFolder) -> None:
    stopped(folder)
    assert noise_outcome(since_resumed(Diary(folder.log)))[0].verdict == "failed"
    done = CliRunner().invoke(app, ["audit", "--site", str(folder.path), "--json", "--resume"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["verdict"] == "passed"
    assert all(report["mutants"].values())
    assert len(report["mutants"]) == 10
    assert any(name.startswith("account ") for name in (check["name"] for check in report["checks"]))
    assert not folder.noise_alarm.exists()
    assert [line["verdict"] for line in notes(folder, "audited")] == ["passed"]
    assert len(notes(folder, "resumed")) == 1
    assert since_resumed(Diary(folder.log)) == []
    with trainer(folder) as again:
        assert isinstance(again.handle(request(0)), Update)


def test_an_audit_needs_a_study(folder: SiteFolder) -> None:
    done = CliRunner().invoke(app, ["audit", "--site", str(folder.path)])
    assert done.exit_code == 1
    assert "no study was approved here yet" in str(done.exception)
