"""The plain loop and Flower's own simulation are two ways to carry the same messages."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from medgan_core.messages import Groups
from medgan_core.record import RunFolder
from simulations.course import run_study
from simulations.hospitals import Launch
from tests.simulations.making import Seeded, tiny_study, write_set

pytestmark = pytest.mark.scenario


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's actors take as many threads as they are told here; sums depend on it."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # where actors find these tests
    torch.set_num_threads(1)


def final(run: RunFolder) -> Groups:
    kept = run.latest_state()
    assert kept is not None
    return kept[0]


@pytest.mark.parametrize("share", ["both", "generator"])
def test_both_engines_end_with_the_same_weights(tmp_path: Path, share: Literal["both", "generator"]) -> None:
    root = write_set(tmp_path / "data")
    study = tiny_study(share=share, rounds=2)
    ends = {}
    for engine in ("loop", "flower"):
        launch = Launch(data=str(root), engine=engine)
        ends[engine] = final(run_study(study, tmp_path / engine, launch, random_for=Seeded(7)))
    loop, flower = ends["loop"], ends["flower"]
    assert loop.keys() == flower.keys() >= {"generator", "discriminator", "release", "statistics"}
    for group, arrays in loop.items():
        for name, array in arrays.items():
            assert np.array_equal(array, flower[group][name]), f"{group}/{name}"
