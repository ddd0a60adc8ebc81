"""Tasks that draw from noise: one generator for all shares, figures beside those of real images."""

from collections.abc import Sequence
from functools import partial
from math import isfinite
from pathlib import Path

import pytest
import torch

from client.site import RandomFor
from medgan_core.config import Study
from medgan_core.data.source import Card, Site, SiteData
from medgan_core.evaluate.augmentation import gains
from simulations.benchmarks.baselines.federation import Federation, federation
from simulations.benchmarks.tasks import METHODS, drawn
from simulations.benchmarks.tasks.case import Case
from simulations.hospitals import Launch
from tests.simulations.making import tiny_study, write_set

STUDY = tiny_study(
    task="augmentation",
    sites__nominal_patients=50,
    privacy__mode="off",
    privacy__sampling_rate=0.2,
    evaluation__epsilon=8.0,
)


def test_all_shares_are_of_one_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Study] = []

    def counted(study: Study, sites: Sequence[Site], random: RandomFor) -> Federation:
        made.append(study)
        return federation(study, sites, random)

    monkeypatch.setattr(drawn, "gains", partial(gains, seeds=(0, 1), steps=2))
    monkeypatch.setattr(drawn, "federation", counted)
    case = Case(STUDY, Launch(data=str(write_set(tmp_path)), public=True))
    found = {name: judge(case) for name, judge in METHODS["augmentation"].items()}
    assert len(made) == 1
    assert list(found) == ["medgan", "medgan-quarter", "medgan-all"]
    for reached in found.values():
        assert reached is not None
        scores = reached.scores
        assert all(isfinite(value) for value in scores.values())
        for figure in ("auc", "balanced_accuracy"):
            ends = scores[f"{figure}_gain_from"], scores[f"{figure}_gain_to"]
            assert ends[0] <= scores[f"{figure}_gain"] <= ends[1]


def test_channels_that_know_of_each_other_stand_beside_shuffled_ones() -> None:
    random = torch.Generator().manual_seed(0)
    first = torch.rand(12, 1, 16, 16, generator=random)
    data = SiteData(
        Card("two", ("brain",), (2, 16, 16), "MR", "patient", public=True),
        tuple(f"p{n}" for n in range(12)),
        torch.arange(12),
        torch.cat([first, 1 - first], dim=1),
        torch.zeros(12, dtype=torch.int64),
    )
    study = STUDY.model_copy(update={"task": "multimodal"})
    case = Case(study, Launch())
    vars(case)["patients"] = (data, data)  # as if read
    scores = drawn.real(case).scores
    assert list(scores) == ["mutual_information", "mutual_information_shuffled"]
    assert scores["mutual_information"] > 1.0 > 5 * scores["mutual_information_shuffled"]
