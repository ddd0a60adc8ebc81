"""Every row of the table of bad input in docs/dicom.md, each on a real file or a really damaged one.

The files lie in one folder and are read in one go; a test looks at what became of its own.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import RTDoseStorage

from medgan_core.data.dicom.reasons import REFUSED, REPAIRED, Refusal, Repair
from medgan_core.data.dicom.sources import find
from medgan_core.data.dicom.terms import Terms
from tests.medgan_core.data.dicom.making import (
    FILES,
    TERMS,
    asked,
    keyed,
    pixels,
    read,
    sample,
    saved,
    slices,
)


def _put(folder: Path, name: str, content: Dataset | bytes, patient: str | None = None) -> None:
    """A file whose patient is its own, so that rows do not touch each other."""
    if isinstance(content, Dataset):
        content.PatientID = patient or name
        content = saved(content)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def _cut(raw: bytes, share: float) -> bytes:
    return raw[: int(len(raw) * share)]


def _cut_pixels(raw: bytes) -> bytes:
    return raw[: raw.index(b"\xe0\x7f\x10\x00") + 900]


def _no_meta() -> bytes:
    """The bare dataset of a file: no preamble, no file meta."""
    dataset = sample("CT_small.dcm", PatientID="no meta")
    bare = FileDataset("", {tag: dataset[tag] for tag in dataset.keys()})  # noqa: SIM118
    stream = pydicom.filebase.DicomBytesIO()
    pydicom.filewriter.write_dataset(_little_explicit(stream), bare)
    return bytes(stream.getvalue())


def _little_explicit(stream: pydicom.filebase.DicomBytesIO) -> pydicom.filebase.DicomBytesIO:
    stream.is_little_endian, stream.is_implicit_VR = True, False
    return stream


def _bad_vr() -> bytes:
    """The VR of Rows made one that nobody knows, and its length with it."""
    raw = saved(sample("CT_small.dcm"))
    where = raw.index(b"\x28\x00\x10\x00US")
    return raw[: where + 4] + b"ZZ\xff\xff" + raw[where + 8 :]


def _no_syntax() -> bytes:
    return (FILES / "meta_missing_tsyntax.dcm").read_bytes()


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ward")
    ct = saved(sample("CT_small.dcm"))
    _put(folder, "1a", (FILES / "MR_truncated.dcm").read_bytes())
    _put(folder, "1b", _cut(ct, 0.9))
    _put(folder, "1c", _cut_pixels(saved(sample("MR_small_jp2klossless.dcm"))))
    _put(folder, "2", _cut(ct, 0.03))
    _put(folder, "3", b"")
    _put(folder, "4", b"Dear colleague, " * 99)
    _put(folder, "5", _no_meta())
    for name in ("test-SR.dcm", "rtplan.dcm", "waveform_ecg.dcm"):
        shutil.copy(FILES / name, folder / f"6{name}")
    bare = sample("CT_small.dcm", PixelData=None)
    _put(folder, "6none", bare)
    shutil.copy(FILES / "dicomdirtests" / "DICOMDIR", folder / "7")
    _put(folder, "8a", sample("CT_small.dcm", PixelSpacing=[0, 0]))
    _put(folder, "8b", sample("CT_small.dcm", PixelSpacing=None))
    for i, place in enumerate((2, 0, 1)):
        dataset = slices(3)[place]
        dataset.InstanceNumber = 1 if i else None
        _put(folder, f"9{'abc'[i]}", dataset, "9")
    _put(folder, "10", sample("CT_small.dcm", PhotometricInterpretation="MONOCHROME1"))
    _put(folder, "11a", sample("CT_small.dcm", RescaleSlope=""))
    _put(folder, "11b", sample("CT_small.dcm", RescaleIntercept=""))
    _put(folder, "12", sample("CT_small.dcm", BitsStored=8, HighBit=7))
    _put(folder, "13a", sample("CT_small.dcm", Rows=200))
    _put(folder, "13b", sample("CT_small.dcm", Columns=100))
    _put(folder, "14a", _bad_vr())
    _put(folder, "14b", _no_syntax())
    shutil.copy(FILES / "examples_ybr_color.dcm", folder / "15")
    _put(folder, "16a", sample("examples_palette.dcm"))
    _put(folder, "16b", sample("SC_ybr_full_422_uncompressed.dcm"))
    _put(folder, "16c", sample("CT_small.dcm", PhotometricInterpretation="CMYK"))
    first, second = sample("CT_small.dcm"), sample("CT_small.dcm")
    second.PixelData = bytes(reversed(second.PixelData))
    _put(folder, "17a", first, "17")
    _put(folder, "17b", second, "17")
    _put(folder, "17c", sample("CT_small.dcm"), "17 copy")
    _put(folder, "17d", sample("CT_small.dcm"), "17 copy")
    for i, dataset in enumerate(slices(2) + slices(2, SeriesInstanceUID="1.2.3.4")):
        dataset.SOPInstanceUID = f"1.2.3.{i + 1}"
        _put(folder, f"18{'abcd'[i]}", dataset, "18")
    localizer = sample("CT_small.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    _put(folder, "19", localizer)
    for i, dataset in enumerate([*slices(3), *slices(1, step=0)]):
        dataset.SOPInstanceUID = f"1.2.20.{i}"
        _put(folder, f"20{'abcd'[i]}", dataset, "20")
    _put(folder, "21b", sample("CT_small.dcm", BurnedInAnnotation="YES"))
    _put(folder, "21c", sample("examples_overlay.dcm"))
    _put(folder, "22", sample("CT_small.dcm", SyntheticData="YES"))
    _put(folder, "23", sample("CT_small.dcm", SOPClassUID=RTDoseStorage, Modality="RTDOSE"))
    return folder


Outcomes = dict[str, tuple[str, ...]]


@pytest.fixture(scope="module")
def became(ward: Path) -> Outcomes:
    """For each file: its reason, or "read" with its repairs."""
    found: Outcomes = {}
    listed = list(find(ward))
    for name, source in listed:  # the outcome of each alone is in its own answer
        answer = asked(source, policy="refuse")  # type: ignore[arg-type]
        found[name] = (str(answer.refusal),) if answer.refusal else ("read", *answer.repairs)
    _, quarantine = read(listed, window="brain", slices_per_patient=0)  # type: ignore[arg-type]
    return found | {name: (code,) for name, code in quarantine.items()}


def test_every_row_of_the_table_names_its_reasons() -> None:
    rows = {row for _, answers in (*REFUSED.values(), *REPAIRED.values()) for row in answers}
    converted_or_grouped = {10, 18}
    assert rows | converted_or_grouped == set(range(1, 24))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("1a", ("short_pixels",), id="row 1: pixels cut off"),
        pytest.param("1b", ("short_pixels",), id="row 1: the file cut off"),
        pytest.param("1c", ("no_pixels",), id="row 1: compressed pixels cut off"),
        pytest.param("2", ("damaged_header",), id="row 2"),
        pytest.param("3", ("empty",), id="row 3"),
        pytest.param("4", ("not_dicom",), id="row 4"),
        pytest.param("5", ("read", "no_meta"), id="row 5"),
        pytest.param("6test-SR.dcm", ("sop_class",), id="row 6: report"),
        pytest.param("6rtplan.dcm", ("sop_class",), id="row 6: plan"),
        pytest.param("6waveform_ecg.dcm", ("sop_class",), id="row 6: ECG"),
        pytest.param("6none", ("no_pixels",), id="row 6: no pixels"),
        pytest.param("7", ("dicomdir",), id="row 7"),
        pytest.param("8a", ("read", "spacing_unknown"), id="row 8: zero"),
        pytest.param("8b", ("read", "spacing_unknown"), id="row 8: missing"),
        pytest.param("11a", ("read", "no_slope"), id="row 11: slope"),
        pytest.param("11b", ("no_hounsfield",), id="row 11: intercept"),
        pytest.param("12", ("bits",), id="row 12"),
        pytest.param("13a", ("short_pixels",), id="row 13: too many rows"),
        pytest.param("13b", ("long_pixels",), id="row 13: too few columns"),
        pytest.param("14a", ("damaged_header",), id="row 14: VR"),
        pytest.param("14b", ("no_syntax",), id="row 14: syntax"),
        pytest.param("15", ("frames",), id="row 15"),
        pytest.param("16a", ("read", "spacing_unknown"), id="row 16: palette"),
        pytest.param("16b", ("read",), id="row 16: YBR"),
        pytest.param("16c", ("photometric",), id="row 16: neither"),
        pytest.param("17a", ("uid_conflict",), id="row 17"),
        pytest.param("17b", ("uid_conflict",), id="row 17: the other"),
        pytest.param("21c", ("read", "overlay"), id="row 21: overlay"),
        pytest.param("22", ("synthetic",), id="row 22"),
        pytest.param("23", ("sop_class",), id="row 23"),
    ],
)
def test_bad_input_ends_as_the_table_says(became: Outcomes, name: str, expected: tuple[str, ...]) -> None:
    assert became[name] == expected


def test_row_8_no_spacing_is_refused_where_the_study_needs_it(ward: Path) -> None:
    _, quarantine = read([(name, ward / name) for name in ("8a", "8b", "10")], spacing=2.0)
    assert quarantine == {"8a": "no_spacing", "8b": "no_spacing"}


def _of(ward: Path, prefix: str, **settings: Any) -> tuple[NDArray[Any], dict[str, str], dict[str, int]]:
    listed = [(p.name, p) for p in sorted(ward.iterdir()) if re.fullmatch(rf"{prefix}[a-z]?", p.name)]
    found, quarantine = read(listed, **settings)
    return found.images.numpy(), quarantine, dict(found.report.repaired)


def test_row_9_slices_are_sorted_by_position(ward: Path) -> None:
    images, quarantine, repaired = _of(ward, "9", window="bone")
    brightness = images.mean(axis=(1, 2, 3)).tolist()
    assert brightness == sorted(brightness)
    assert (quarantine, repaired) == ({}, {"order": 3})


def test_row_10_monochrome1_is_inverted(ward: Path) -> None:
    assert np.allclose(pixels(ward / "10", window="bone"), 1 - pixels(FILES / "CT_small.dcm", window="bone"))


def test_row_17_a_copy_counts_once(ward: Path) -> None:
    images, quarantine, _ = _of(ward, "17")
    assert len(images) == 1
    assert set(quarantine.values()) == {"uid_conflict"}


def test_row_18_series_are_not_merged(ward: Path) -> None:
    images, quarantine, repaired = _of(ward, "18")
    assert (len(images), quarantine, repaired) == (4, {}, {})


def test_row_19_localizers_are_left_out(ward: Path) -> None:
    found, quarantine = read([("19", ward / "19")])
    assert (len(found.images), quarantine, found.report.refused) == (0, {}, {"localizer": 1})


def test_row_20_uneven_slices_are_counted_and_make_no_volume(ward: Path) -> None:
    images, _, repaired = _of(ward, "20")
    assert (len(images), repaired["uneven_slices"]) == (4, 4)
    images, quarantine, _ = _of(ward, "20", stack=3, channels=3)
    assert len(images) == 0
    assert set(quarantine.values()) == {"uneven"}


def test_row_21_what_the_header_says_of_text_is_believed(ward: Path) -> None:
    checked = Terms(pseudonym=keyed, text_check=True)
    assert read([("21b", ward / "21b")], checked)[1] == {"21b": "text"}
    assert read([("21b", ward / "21b")], TERMS)[1] == {}


def test_every_reason_is_in_the_list_with_words() -> None:
    assert set(REFUSED) == set(Refusal)
    assert set(REPAIRED) == set(Repair)
    assert all(words for words, _ in (*REFUSED.values(), *REPAIRED.values()))
