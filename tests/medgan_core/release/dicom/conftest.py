from pathlib import Path

import pytest

from medgan_core.release.dicom.studies import write_studies
from tests.medgan_core.release.conftest import _built, _built_public, release
from tests.medgan_core.release.dicom.making import PROVENANCE, everybody

__all__ = ["_built", "_built_public", "release"]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of every modality, to read."""
    folder = tmp_path_factory.mktemp("cohort") / "out"
    assert write_studies(folder, everybody(), PROVENANCE) == 13
    return folder
