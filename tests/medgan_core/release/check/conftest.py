"""Checked releases that a test may spoil."""

import shutil
from pathlib import Path

import pytest

from medgan_core.release.check.run import check_release
from tests.medgan_core.release.check.making import LENIENT, histogram, metrics_with
from tests.medgan_core.release.making import Parties


@pytest.fixture(scope="session")
def _checked(tmp_path_factory: pytest.TempPathFactory, parties: Parties) -> Path:
    folder = tmp_path_factory.mktemp("checked") / "release"
    metrics = metrics_with(histogram=histogram({0: (80, 20), 1: (300, 60)}))
    parties.build(folder, {"release.contact": "privacy@clinic.example"}, metrics=metrics)
    check_release(folder, LENIENT, parties.coordinator, "A. Board: nothing here is real")
    return folder


@pytest.fixture
def checked(_checked: Path, tmp_path: Path) -> Path:
    """A signed release with a check that was inconclusive, since nothing was attacked, and accepted."""
    return Path(shutil.copytree(_checked, tmp_path / "release"))
