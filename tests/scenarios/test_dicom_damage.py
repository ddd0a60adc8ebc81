"""Real files and a thousand damaged ones end as read, repaired or refused; a crash is a worker's alone."""

from pathlib import Path

import pydicom.data
import pytest

from medgan_core.data.dicom.reasons import Refusal
from medgan_core.data.dicom.sources import find
from simulations.benchmarks.damage import read_damaged
from tests.medgan_core.data.dicom.making import read
from tests.medgan_core.data.making import shared

pytestmark = pytest.mark.scenario
FILES = 1000


def test_damaged_files_end_as_read_repaired_or_refused() -> None:
    found = read_damaged(FILES, seed=7)
    assert sum(found.outcomes.values()) == found.files == FILES
    assert set(found.outcomes) <= {"read", "repaired", *map(str, Refusal)}
    assert {"read", "damaged_header", "short_pixels", "sop_class"} <= set(found.outcomes)
    assert found.worker_peak <= 500  # MiB; a worker starts at some 90, more where its lines are counted


@pytest.mark.parametrize("policy", ["refuse", "all"])
@pytest.mark.parametrize("origin", ["bundled", "dicom_samples"])
def test_every_real_file_ends_as_read_repaired_or_refused(origin: str, policy: str) -> None:
    bundled = Path(str(pydicom.data.__file__)).parent
    folder = bundled if origin == "bundled" else shared(origin) / origin
    found, quarantine = read(find(folder), frames=policy)  # type: ignore[arg-type]
    report = found.report
    assert report.files == report.read + sum(report.refused.values()) > 150
    assert report.read > 30
    assert not {"timeout", "crash"} & set(quarantine.values())
    assert found.images.isfinite().all()
