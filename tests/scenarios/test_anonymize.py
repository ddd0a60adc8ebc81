"""64 canaries in every image, report and plan that pydicom bundles, and in real files: none is left."""

import os
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from medgan_core.data.dicom.text import can_look
from medgan_core.release.anonymize.cohort import keep_pixels
from medgan_core.release.anonymize.identifiers import PseudonymKey
from medgan_core.release.anonymize.replacement import draw_cohort, mirror_cohort
from medgan_core.release.anonymize.silence import silence
from medgan_core.release.leaks.check import leak_check
from medgan_core.release.leaks.search import Search
from medgan_core.release.leaks.values import sorted_out, values_of
from tests.medgan_core.release.anonymize.planting import BUNDLED, CANARIES, Planted, plant
from tests.medgan_core.release.anonymize.test_cohort import left
from tests.medgan_core.release.making import CARD, build

pytestmark = pytest.mark.scenario
KEY = PseudonymKey(bytes(range(32)))
SAMPLES = (
    Path(os.environ.get("MEDGAN_DATA") or Path(__file__).parents[3] / "shared" / "data") / "dicom_samples"
)
EVERY_NTH = 8


def sources(folder: Path) -> Iterator[Path]:
    """All files that pydicom bundles, and some of the samples."""
    yield from sorted(path for path in BUNDLED.rglob("*") if path.is_file())
    members = [(z, name) for z in sorted(SAMPLES.glob("*.zip")) for name in zipfile.ZipFile(z).namelist()]
    folder.mkdir()
    for number, (archive, name) in enumerate(members[::EVERY_NTH]):
        if not name.endswith("/"):
            (folder / str(number)).write_bytes(zipfile.ZipFile(archive).read(name))
            yield folder / str(number)


@pytest.fixture(name="cohort", scope="module")
def _cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Planted]]:
    folder = tmp_path_factory.mktemp("planted")
    (folder / "in").mkdir()
    made = []
    with silence(), warnings.catch_warnings():
        for number, path in enumerate(sources(folder / "samples")):
            planted = plant(path, number)
            if planted is not None:
                (folder / "in" / f"{number}.dcm").write_bytes(planted.content)
                made.append(planted)
    return folder / "in", made


def test_the_search_knows_every_canary(cohort: tuple[Path, list[Planted]]) -> None:
    """The positive control: a search that finds nothing would find it."""
    source, planted = cohort
    assert len(planted) > 100
    assert len(left(source, planted)) > CANARIES * (len(planted) - 5)  # a few are deflated
    missed = []
    with silence():
        for one in planted:
            search = Search(sorted_out(values_of("a.dcm", one.content))[0])
            missed += [canary for canary in one.canaries if not search.find(b"\0" + canary.encode() + b"\0")]
    assert missed == []


@pytest.mark.skipif(not can_look(), reason="Tesseract is not installed")
def test_no_canary_is_left_where_pixels_are_kept(cohort: tuple[Path, list[Planted]], tmp_path: Path) -> None:
    source, planted = cohort
    outcome = keep_pixels(source, tmp_path / "out", KEY)
    assert left(tmp_path / "out", planted) == []
    leaks = leak_check(tmp_path / "out", source, pixels_kept=True)
    assert leaks.clean, leaks.places
    assert outcome.written > 50
    assert outcome.written + sum(outcome.refused.values()) == len(planted)
    print("\n".join(outcome.lines()))


@pytest.mark.parametrize("modality", ["CT", "MR", "DX", "OT"])
def test_no_canary_is_left_where_pixels_are_replaced(
    cohort: tuple[Path, list[Planted]], tmp_path: Path, modality: str
) -> None:
    source, planted = cohort
    release = build(tmp_path / "release", card=replace(CARD, modality=modality))
    mirror_cohort(source, tmp_path / "mirror", release, KEY)
    draw_cohort(source, tmp_path / "counts", release, KEY, 5)
    for name in ("mirror", "counts"):
        assert left(tmp_path / name, planted) == []
        leaks = leak_check(tmp_path / name, source)
        assert leaks.clean, leaks.places
