"""A tiny release: 28 × 28, width 4, one round, two sites, receipts made up as ledgers would give them."""

import shutil
from pathlib import Path

import pytest

from medgan_core.release.bundle import Release
from tests.medgan_core.release.making import build


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built") / "release").folder


@pytest.fixture(scope="session")
def _built_public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("public") / "release", {"privacy.mode": "off"}).folder


@pytest.fixture
def folder(_built: Path, tmp_path: Path) -> Path:
    """A release that a test may spoil."""
    return Path(shutil.copytree(_built, tmp_path / "release"))


@pytest.fixture
def public_folder(_built_public: Path, tmp_path: Path) -> Path:
    """A release without privacy."""
    return Path(shutil.copytree(_built_public, tmp_path / "public"))


@pytest.fixture(scope="session")
def release(_built: Path) -> Release:
    """A release to read."""
    return Release.open(_built)
