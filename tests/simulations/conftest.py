from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from medgan_core.evaluate import utility
from medgan_core.record import RunFolder
from simulations.course import run_study
from simulations.hospitals import Launch
from tests.simulations.making import tiny_study, write_set


@pytest.fixture(autouse=True, scope="session")
def _little_work() -> Iterator[None]:
    """One core, and a classifier of a few steps: these tests are about the course of a run."""
    threads, steps = torch.get_num_threads(), utility.MINIMUM_STEPS
    torch.set_num_threads(1)
    utility.MINIMUM_STEPS = 2
    yield
    torch.set_num_threads(threads)
    utility.MINIMUM_STEPS = steps


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the tiny set."""
    return write_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run on data that nobody declared public; no test may change it."""
    study = tiny_study(evaluation__reports=True)
    return run_study(study, tmp_path_factory.mktemp("runs"), Launch(data=str(data)))
