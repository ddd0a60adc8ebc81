"""What can go wrong at hospitals, with every process that there would be: nothing lost, nothing let in.

Every refusal is explained in one line to the person at the keyboard, and to the coordinator as far as it may
know. One federation plays all of it.
"""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.judging import judge
from client.keys import verify_key
from medgan_core.messages import Phase
from medgan_core.proposals import Proposal
from medgan_core.release.verify import verify_release
from server.run_file import RunFiles
from server.start import resume, stop
from tests.client.sites import configure
from tests.scenarios.federating import until
from tests.scenarios.hospitals import Hospital, Hospitals, fill, small_disk
from tests.simulations.making import study_file

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a small disk, and nodes that are another user"),
]
ENOUGH_FOR_A_CHARGE = 300_000
STUDY: dict[str, Any] = {
    "sites__count": 3,
    "training__generator_width": 48,
    "training__discriminator_width": 16,
    "deployment__attempts": 2,
}


@pytest.fixture(scope="module")
def hospitals() -> Iterator[Hospitals]:
    path = Path(tempfile.mkdtemp(prefix="mg-"))  # where any user may pass
    path.chmod(0o755)
    try:
        with small_disk(path / "site-1"), Hospitals(path).running() as running:
            yield running
    finally:
        shutil.rmtree(path)


@pytest.fixture
def sites(hospitals: Hospitals) -> tuple[Hospital, ...]:
    return hospitals.sites


def test_a_full_disk_a_spent_budget_and_nan_in_one_run_that_goes_on(
    hospitals: Hospitals, sites: tuple[Hospital, ...], tmp_path: Path
) -> None:
    small, poor, bad = sites
    run = hospitals.propose(study_file(tmp_path, **STUDY, sites__quorum=2))
    name = run.run.name
    for site in sites:
        site.agree(name)
    for site in (small, poor):
        until(lambda: site.notes("answered", run=name, round=0), 400, "round 0", hospitals.logs)  # noqa: B023

    ballast = fill(small.folder.path, ENOUGH_FOR_A_CHARGE)
    hospitals.gate.touch()
    until(lambda: small.notes("refused", run=name, round=1), 400, "its disk is full", hospitals.logs)
    [refused, *_] = small.notes("refused", run=name, round=1)
    assert "could not be saved" in refused["why"]
    assert "No space left on device" in refused["why"]
    assert refused["told"] == "failed: MedGANError"
    fill(small.folder.path, 0)  # not even a line of the log
    until(lambda: run.standing.state == "paused", 400, "the run is paused", hospitals.logs)
    assert "round 1: 1 acceptable updates, the study needs 2" in run.standing.reason
    assert "site-1: failed: " in run.standing.reason
    assert "update of site-3 in round 1" in run.standing.reason
    assert "holds NaN or infinity" in run.standing.reason
    assert poor.notes("answered", run=name, round=1)
    change(hospitals, poor, policy__epsilon=0.01)
    ballast.unlink()
    resume(hospitals.coordinator, name)
    until(lambda: run.standing.state == "finished", 400, "the run ends", hospitals.logs)
    assert "No space left on device" in small.command("log").stdout
    took_part = [entry["sites"] for entry in rounds(run)]
    assert took_part == [["site-1", "site-2", "site-3"], ["site-1", "site-2"], *[["site-1", "site-3"]] * 2]
    assert verify_release(run.run.release).privacy == "dp"
    assert [charge for charge in small.charged(name) if charge[0] == "charge"] == [
        ("charge", number) for number in range(4)
    ]
    assert ("reopened", 1) in small.charged(name)
    assert [number for kind, number in poor.charged(name) if kind == "charge"] == [0, 1]
    [*_, refused] = poor.notes("refused", run=name)
    assert "above the site's cap of 0.01" in refused["why"]
    assert refused["told"] == hospitals.said(run, poor).reason == "not approved"
    assert bad.charged(name)


def change(hospitals: Hospitals, site: Hospital, **policy: Any) -> None:
    """The site's person changes site.toml; the daemon starts the trainer again."""
    configure(site.folder, **policy)
    before = len(site.notes("started"))
    os.kill(site.trainer(), signal.SIGKILL)
    until(lambda: len(site.notes("started")) > before, 400, "the trainer is back", hospitals.logs)


def rounds(run: RunFiles) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.run.path / "rounds.jsonl").read_text().splitlines()]


def test_code_that_the_coordinator_ships_reaches_nothing_and_asks_in_vain(
    hospitals: Hospitals, sites: tuple[Hospital, ...], tmp_path: Path
) -> None:
    """site-3's node is the trainer's own user: there the same code takes all, so it does know how."""
    guarded, _, careless = sites
    run = hospitals.propose(study_file(tmp_path, **STUDY))
    guarded.agree(run.run.name)
    charges = guarded.charged(run.run.name)
    answers = hospitals.attack(guarded.secrets(), orders(guarded, run.run.name))
    assert answers[guarded.name]["loot"] == []
    assert set(careless.secrets()) <= set(answers[careless.name]["loot"])
    assert "the trainer's mem" in answers[careless.name]["loot"]

    one_more, beyond, no_noise, off, cheaper = answers[guarded.name]["said"]
    assert one_more["refusal"] == "plan: round 2 of the approved study is no train"
    assert beyond["refusal"] == "plan: round 4 of the approved study is no train"
    assert no_noise["standing"]["answer"] == off["standing"]["answer"] == "refused"
    assert no_noise["standing"]["reason"].startswith("study: privacy.noise_multiplier = 0")
    assert off["standing"]["reason"].startswith("privacy_off: a study without privacy")
    assert cheaper["refusal"] == "failed: IntegrityError"
    told = guarded.command("log").stdout
    for line in (one_more["refusal"], no_noise["standing"]["reason"], off["standing"]["reason"]):
        assert line in told
    assert "the request names another privacy plan than the study" in told
    assert guarded.charged(run.run.name) == charges == []
    stop(hospitals.coordinator, run.run.name)
    until(lambda: run.standing.state == "stopped", 400, "the run is stopped", hospitals.logs)
    assert guarded.notes("farewell", run=run.run.name)


def orders(site: Hospital, run: str) -> list[dict[str, Any]]:
    """What a coordinator has no right to: more rounds, none or less noise."""
    entry = site.entry(run)
    plan = judge(site.folder.config(), entry.proposal, verify_key(site.folder)).plan
    phases = [Phase.ONE_SHOT, Phase.TRAIN, Phase.GATE, Phase.EVALUATE]
    assert [plan.phase(number) for number in range(4)] == phases
    asked = {"run": run, "phase": "train", "plan": plan.digest()}

    def proposed(name: str, **privacy: Any) -> dict[str, Any]:
        study = dict(entry.proposal.study)
        study["privacy"] = {**study["privacy"], **privacy}
        return {"proposal": Proposal(f"{run}-{name}", study, entry.proposal.sites).to_json()}

    return [
        {**asked, "round": 2},
        {**asked, "round": 4},
        proposed("silent", noise_multiplier=0.0),
        proposed("open", mode="off"),
        {**asked, "round": 0, "phase": "one_shot", "plan": "0" * 64},
    ]


def test_more_than_a_site_allows_is_refused_by_the_name_of_its_rule(
    hospitals: Hospitals, sites: tuple[Hospital, ...], tmp_path: Path
) -> None:
    strict, poor, _ = sites
    study = study_file(tmp_path, **STUDY)
    change(hospitals, strict, policy__most_steps=2)
    one_more = hospitals.propose(study, "training.discriminator_steps=3")
    without = hospitals.propose(study, "privacy.mode=off")
    for run, rule in (
        (one_more, "most_steps: discriminator steps of 3 asked for, 2 at most"),
        (without, "privacy_off: a study without privacy, for which this site has no public data"),
    ):
        until(lambda: run.standing.state == "paused", 400, "the run is refused", hospitals.logs)  # noqa: B023
        assert f"site-1: {rule}" in run.standing.reason
        assert [note["told"] for note in strict.notes("proposal", run=run.run.name)] == [rule]
    done = poor.approve(one_more.run.name)
    assert done.returncode == 3
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "left 0 beside what open runs hold, cap 0.01" in line
    assert "Traceback" not in done.stderr
