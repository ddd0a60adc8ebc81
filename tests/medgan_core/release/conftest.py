"""A tiny release: 28 × 28, width 4, one round, two sites, receipts made up as ledgers would give them."""

import shutil
from pathlib import Path

import pytest

from medgan_core.release.bundle import Release
from tests.medgan_core.release.making import Parties, build


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built") / "release").folder


@pytest.fixture(scope="session")
def _built_public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("public") / "release", {"privacy.mode": "off"}).folder


@pytest.fixture(scope="session")
def parties() -> Parties:
    """Who signed the signed release."""
    return Parties()


@pytest.fixture(scope="session")
def _built_signed(tmp_path_factory: pytest.TempPathFactory, parties: Parties) -> Path:
    return parties.build(tmp_path_factory.mktemp("signed") / "release").folder


@pytest.fixture
def signed(_built_signed: Path, tmp_path: Path) -> Path:
    """A release that a coordinator and two sites signed; a test may spoil it."""
    return Path(shutil.copytree(_built_signed, tmp_path / "signed"))


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
