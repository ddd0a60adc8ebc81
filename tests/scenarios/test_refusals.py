"""A site that sends what it may not: refused by name, and the run goes on or fails as its quorum says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgan_core.errors import QuorumError
from medgan_core.evaluate import utility
from medgan_core.messages import Groups, Phase, Update
from medgan_core.release.verify import verify_release
from server.rounds import Refusal
from simulations import course, hospitals
from simulations.course import resume_run, run_study
from simulations.hospitals import Launch
from simulations.progress import Silent
from tests.simulations.making import entries, tiny_study, write_set

pytestmark = pytest.mark.scenario
Spoil = Callable[[Groups], Groups]


def with_nan(groups: Groups) -> Groups:
    name = next(iter(groups["generator"]))
    spoiled = groups["generator"][name].copy()
    spoiled.flat[0] = np.nan
    return {**groups, "generator": {**groups["generator"], name: spoiled}}


def with_wrong_shape(groups: Groups) -> Groups:
    name = next(iter(groups["generator"]))
    return {**groups, "generator": {**groups["generator"], name: np.zeros((1, 2), np.float32)}}


def with_extra_tensor(groups: Groups) -> Groups:
    return {**groups, "generator": {**groups["generator"], "patients": np.ones(3, np.float32)}}


def without_discriminator(groups: Groups) -> Groups:
    return {name: arrays for name, arrays in groups.items() if name != "discriminator"}


SPOILED: dict[Spoil, str] = {
    with_nan: "holds NaN or infinity",
    with_wrong_shape: "shape (1, 2), expected",
    with_extra_tensor: "tensor of generator not expected: patients",
    without_discriminator: "group missing: discriminator",
}


class Listener(Silent):
    """Remembers who was refused."""

    def __init__(self) -> None:
        self.heard: list[Refusal] = []

    def refused(self, refusal: Refusal) -> None:
        self.heard.append(refusal)


@pytest.fixture(autouse=True)
def _little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utility, "MINIMUM_STEPS", 2)


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    return Launch(data=str(write_set(tmp_path_factory.mktemp("data"), patients=80)))


def spoil_site_2(monkeypatch: pytest.MonkeyPatch, spoil: Spoil) -> None:
    """From now on site-2 answers the training round with something else, under a receipt that fits."""
    make = hospitals.make_worker

    def wrapped(*arguments: Any) -> Any:
        worker = make(*arguments)
        answer = worker.answer

        def spoiled(request: Any) -> Update:
            update = answer(request)
            if worker.site.name != "site-2" or request.phase is not Phase.TRAIN:
                return update
            changed = replace(update, groups=spoil(update.groups))
            assert worker.sign is not None
            receipt = replace(changed.receipt, update_digest=changed.digest(), signature="")
            return changed.sealed(replace(receipt, signature=worker.sign(receipt.message()).hex()))

        worker.answer = spoiled  # type: ignore[method-assign]
        return worker

    monkeypatch.setattr(course, "make_worker", wrapped)


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_bad_update_is_refused_by_name_and_a_quorum_goes_on(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch, spoil: Spoil
) -> None:
    spoil_site_2(monkeypatch, spoil)
    listener = Listener()
    run = run_study(tiny_study(sites__count=3, sites__quorum=2), tmp_path, launch, listener)
    [refusal] = listener.heard
    assert refusal.site == "site-2"
    assert "update of site-2 in round 1" in refusal.reason
    assert SPOILED[spoil] in refusal.reason
    rounds = [json.loads(line) for line in (run.path / "rounds.jsonl").read_text().splitlines()]
    assert [len(entry["sites"]) for entry in rounds] == [3, 2, 3, 3]
    assert verify_release(run.release).privacy == "dp"


@pytest.mark.parametrize("spoil", SPOILED)
def test_without_a_quorum_the_run_fails_clearly_and_is_resumed_at_no_new_charge(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch, spoil: Spoil
) -> None:
    study = tiny_study(sites__count=3, sites__quorum=3)
    with monkeypatch.context() as patch:
        spoil_site_2(patch, spoil)
        with pytest.raises(QuorumError) as caught:
            run_study(study, tmp_path, launch)
    [path] = tmp_path.iterdir()
    message = str(caught.value)
    assert "round 1: 2 acceptable updates, the study needs 3 (update of site-2 in round 1" in message
    assert SPOILED[spoil] in message
    assert caught.value.exit_code == 1
    assert caught.value.__notes__ == [f"go on with: medgan-sim resume {path}"]
    assert verify_release(resume_run(path).release).privacy == "dp"
    assert [entries(path, f"site-{n}").count("charge") for n in (1, 2, 3)] == [4, 4, 4]
