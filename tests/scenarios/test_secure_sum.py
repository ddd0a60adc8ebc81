"""A phantom study under secure sum on Flower's engine: four hospitals, one of which fails in each stage."""

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgan_core.config import Study, load_study
from medgan_core.errors import MedGANError
from medgan_core.messages import Request, Stage, StageReply, Update
from medgan_core.release.verify import verify_release
from simulations import flower
from simulations.course import run_study
from simulations.hospitals import Launch
from simulations.shipped import study_path
from tests.simulations.making import Seeded, tiny_study, write_set

pytestmark = pytest.mark.scenario
FEW = {
    "rounds": 1,
    "sites.count": 4,
    "privacy.secure_sum": "true",
    "privacy.drop": 1,
    "phantoms.patients": 30,
    "one_shot.frequencies": 32,
    "one_shot.iterations": 5,
    "training.discriminator_steps": 4,
    "evaluation.synthetic_images": 64,
    "evaluation.reports": "false",
    "evaluation.attack": "false",
}


def study(**changes: Any) -> Study:
    settings = FEW | {key.replace("__", "."): value for key, value in changes.items()}
    return load_study(study_path("phantoms"), [f"{key}={value}" for key, value in settings.items()])


@dataclass(frozen=True)
class Failing:
    """Answers as the engine does, but for one site that fails whenever a stage of a secure sum is asked."""

    node: int
    stage: Stage

    def __call__(self, actors: flower.Actors, context: Any, request: Request) -> Update | StageReply:
        asked = request.secure
        if (
            asked is not None
            and asked.stage is self.stage
            and context.node_config["partition-id"] == self.node
        ):
            raise MedGANError("the machine of this hospital is down")
        return flower._answer(actors, context, request)


@pytest.fixture(autouse=True)
def _where_actors_find_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.parametrize("stage", Stage)
def test_one_hospital_fails_in_a_stage_and_the_run_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    monkeypatch.setattr(flower, "_answer", Failing(2, stage))
    # One round of training is a plain one: there the hospital is back.
    run = run_study(study(rounds=int(stage is Stage.MASK)), tmp_path, Launch(engine="flower"))
    history = [json.loads(line) for line in (run.path / "rounds.jsonl").read_text().splitlines()]
    came = stage in (Stage.CONFIRM, Stage.REVEAL)
    for entry in history:
        summed = entry["phase"] != "train"
        assert entry["sites"] == [f"site-{n}" for n in range(1, 5) if n != 3 or came or not summed]
    verified = verify_release(run.release)
    assert verified.privacy == "dp"
    assert verified.epsilon <= 10
    for site in range(1, 5):
        key = run.site(f"site-{site}") / "secure-sum.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    card = (run.release / "card.md").read_text()
    assert "Secure sum" in card


@pytest.mark.parametrize("share", ["both", "gradient"])
def test_both_engines_end_with_the_same_sums(tmp_path: Path, share: str) -> None:
    root = write_set(tmp_path / "data", patients=80)
    asked = tiny_study(sites__count=4, privacy__secure_sum=True, privacy__drop=1, share=share)
    ends = []
    for engine in ("loop", "flower"):
        launch = Launch(data=str(root), engine=engine)
        kept = run_study(asked, tmp_path / engine, launch, random_for=Seeded(7)).latest_state()
        assert kept is not None
        ends.append(kept[0])
    for group in ("statistics", "release"):
        assert all(np.array_equal(array, ends[1][group][name]) for name, array in ends[0][group].items())
