import json
import re
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from medgan_core.data.dicom.text import can_look
from medgan_core.errors import InputError
from medgan_core.release.anonymize.cohort import Outcome, keep_pixels, leaves_behind
from medgan_core.release.anonymize.headers import Patient, clean_header
from medgan_core.release.anonymize.identifiers import PseudonymKey
from medgan_core.release.anonymize.marking import new_meta
from medgan_core.release.leaks.check import leak_check
from tests.medgan_core.release.anonymize.planting import BUNDLED, CANARIES, Planted, plant

KEY = PseudonymKey(bytes(range(32)))
FAST = ("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "rtplan.dcm", "rtdose.dcm", "reportsi.dcm")
needs_tesseract = pytest.mark.skipif(not can_look(), reason="Tesseract is not installed")


def planted_folder(folder: Path, names: tuple[str, ...] = FAST) -> list[Planted]:
    folder.mkdir(parents=True)
    made = []
    for number, name in enumerate(names):
        planted = plant(BUNDLED / name, number)
        assert planted is not None
        (folder / f"{number}.dcm").write_bytes(planted.content)
        made.append(planted)
    return made


def left(folder: Path, planted: list[Planted]) -> list[str]:
    """Canaries found by nothing but a look at the bytes and names of all files."""
    written = [path for path in folder.rglob("*") if path.is_file()]
    everything = b"\n".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in written)
    return [canary for one in planted for canary in one.canaries if _held(everything, canary.encode())]


def _held(everything: bytes, canary: bytes) -> bool:
    """A date begins where no digit stands before it: amid the forty digits of a UID any eight may stand."""
    if not canary.isdigit():
        return canary in everything
    return bool(re.search(rb"(?<!\d)" + canary, everything))


def read(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


@pytest.fixture(name="kept", scope="module")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Planted], Outcome]:
    if not can_look():
        pytest.skip("Tesseract is not installed")
    folder = tmp_path_factory.mktemp("cohort")
    planted = planted_folder(folder / "in")
    return folder / "in", folder / "out", planted, keep_pixels(folder / "in", folder / "out", KEY)


def test_no_canary_is_left(kept: tuple[Path, Path, list[Planted], Outcome]) -> None:
    source, out, planted, outcome = kept
    assert len(left(source, planted)) == len(FAST) * CANARIES
    assert left(out, planted) == []
    assert outcome.written == 3
    assert sum(outcome.refused.values()) == 3


def test_leak_check_agrees_and_finds_all_where_nothing_was_removed(
    kept: tuple[Path, Path, list[Planted], Outcome],
) -> None:
    source, out, planted, _ = kept
    assert leak_check(out, source, pixels_kept=True).clean
    copied = source.parent / "copied"
    copied.mkdir()
    (copied / "a.bin").write_bytes(planted[0].content)
    leaks = leak_check(copied, source)
    assert not leaks.clean
    assert sum(leaks.found.values()) >= CANARIES
    assert leaks.copies == 1


def test_what_the_files_say_of_themselves(kept: tuple[Path, Path, list[Planted], Outcome]) -> None:
    _, out, _, _ = kept
    for dataset in read(out):
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"
        codes = {item.CodeValue for item in dataset.DeidentificationMethodCodeSequence}
        assert codes == {"113100", "113101", "113103", "113107", "113108"}
        assert "real" in " ".join(dataset.DeidentificationMethod)
        assert dataset.preamble == b"\0" * 128
        assert len(dataset.file_meta) == 7
        assert not any(element.tag.is_private for element in dataset.iterall())
        assert dataset.PatientBirthDate in ("", None)
        assert dataset.PatientID == dataset.PatientName
    record = json.loads((out / "anonymize.json").read_text())
    assert record["written"] == 3
    assert "inside the hospital" in record["use"]


def test_pixels_and_geometry_stay(kept: tuple[Path, Path, list[Planted], Outcome]) -> None:
    _, out, _, _ = kept
    (made,) = [dataset for dataset in read(out) if dataset.Modality == "CT"]
    real = pydicom.dcmread(BUNDLED / "CT_small.dcm")
    np.testing.assert_array_equal(made.pixel_array, real.pixel_array)
    for keyword in ("PixelSpacing", "ImagePositionPatient", "RescaleIntercept", "KVP", "PatientSex"):
        assert made[keyword].value == real[keyword].value
    assert not made.file_meta.TransferSyntaxUID.is_compressed


@needs_tesseract
def test_the_same_key_gives_the_same_bytes_and_another_key_others(tmp_path: Path) -> None:
    planted_folder(tmp_path / "in", ("CT_small.dcm",))
    for name, key in (("a", KEY), ("b", KEY), ("c", PseudonymKey(b"x" * 32))):
        keep_pixels(tmp_path / "in", tmp_path / name, key)
    a, b, c = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.dcm")} for n in "abc"
    )
    assert a == b
    assert not set(a) & set(c)


def test_a_value_that_would_stay_is_seen(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(BUNDLED / "CT_small.dcm")
    dataset.PatientName = "Quisling^Ottilie"
    made = clean_header(dataset, Patient.of(KEY, "", "1"))
    new_meta(made)
    assert not leaves_behind(dataset, made)
    made.SeriesDescription = "QUISLING, follow-up"
    assert leaves_behind(dataset, made)


def test_folders_that_overlap_or_are_not_ours_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "below").mkdir(parents=True)
    (source / "x.txt").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    for out, says in (
        (source, "OUT lies in IN"),
        (source / "below", "OUT lies in IN"),
        (tmp_path, "IN in OUT"),
        (tmp_path / "other", "no earlier outcome"),
        (tmp_path / "new", "no file could be de-identified; 1 refused: no DICOM file"),
    ):
        with pytest.raises(InputError, match=says):
            keep_pixels(source, out, KEY)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "other" / "mine.txt").exists()


def test_nothing_of_a_patient_is_said(
    kept: tuple[Path, Path, list[Planted], Outcome], capfd: pytest.CaptureFixture[str]
) -> None:
    source, out, planted, outcome = kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keep_pixels(source, out.parent / "again", KEY)
    said = "".join(capfd.readouterr()) + "\n".join(outcome.lines()) + (out / "anonymize.json").read_text()
    assert [canary for one in planted for canary in one.canaries if canary in said] == []
    assert str(source) not in said
