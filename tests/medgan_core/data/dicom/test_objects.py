"""Objects that came one by one are kept bare, and read again as the series of files that they were."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medgan_core.data.dicom.objects import Object, read_objects
from medgan_core.data.dicom.reasons import QuarantineError, Refusal
from medgan_core.data.dicom.sealing import sealed
from medgan_core.data.dicom.sources import Sealed
from medgan_core.data.dicom.stream import Read, Stream
from medgan_core.data.records import Records
from tests.medgan_core.data.dicom.making import FILES, TERMS, keyed, read, sample, saved, slices
from tests.medgan_core.data.making import config

KEY = bytes(range(32))
LOOKED_AT = config("dicom", "x", frames="all", slices_per_patient=0)


def streamed(contents: list[bytes]) -> list[Read]:
    with Stream(LOOKED_AT, TERMS) as stream:
        return [stream.read(content) for content in contents]


def reread(folder: Path, found: list[Read], **settings: Any) -> Records:
    objects = []
    for number, one in enumerate(found):
        path = folder / f"{number}.image"
        path.write_bytes(sealed(one.bare, KEY))
        objects.append(Object(f"{number}", f"label {number}", one.patient, Sealed(path, KEY)))
    terms = replace(TERMS, cache=folder / "cache", cache_key=KEY, text_check=True)
    return read_objects(config("dicom", "x", **{"image_size": 32} | settings), objects, terms)


@pytest.mark.parametrize(
    "settings",
    [{"window": "bone"}, {"stack": 3, "channels": 3}, {"slice_spacing": 1.0}, {"spacing": 1.0}],
    ids=lambda settings: next(iter(settings)),
)
def test_volumes_are_read_of_kept_objects_as_of_files(tmp_path: Path, settings: dict[str, Any]) -> None:
    contents = [saved(dataset) for dataset in slices(5)]
    expected, _ = read([(f"{i}", content) for i, content in enumerate(contents)], **settings)
    kept = streamed(contents)
    records = reread(tmp_path, kept, **settings)
    assert len(expected.images) >= 3
    assert np.array_equal(records.images, expected.images)
    assert set(records.patients) == {keyed("1CT1")}
    assert all(label.startswith("label ") for label in records.labels)
    if "window" in settings:  # once is enough: from the cache
        assert np.array_equal(reread(tmp_path, kept, **settings).images, expected.images)


def test_frames_are_the_study_s_to_choose(tmp_path: Path) -> None:
    found = streamed([(FILES / "SC_rgb_rle_2frame.dcm").read_bytes()])
    both = reread(tmp_path, found, frames="all", channels=3)
    assert both.images.shape == (2, 3, 32, 32)
    assert reread(tmp_path, found, frames="first", channels=3).images.shape[0] == 1
    refused = reread(tmp_path, found, channels=3)
    assert refused.report is not None
    assert (len(refused.images), dict(refused.report.refused)) == (0, {"frames": 1})


def test_uids_are_keyed_and_the_same_for_the_same(tmp_path: Path) -> None:
    contents = [saved(dataset) for dataset in slices(2)]
    one, two, again = (
        pydicom.dcmread(pydicom.filebase.DicomBytesIO(found.bare))
        for found in streamed([contents[0], contents[1], contents[0]])
    )
    assert one.SeriesInstanceUID == two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    assert one.SOPInstanceUID == again.SOPInstanceUID
    assert one.SOPInstanceUID.is_valid
    assert one.SOPInstanceUID != slices(1)[0].SOPInstanceUID


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Refusal.EMPTY),
        (saved(sample("CT_small.dcm", SyntheticData="YES")), Refusal.SYNTHETIC),
        (saved(sample("CT_small.dcm", PatientID="")), Refusal.NO_PATIENT),
        (saved(sample("CT_small.dcm"))[:-5000], Refusal.SHORT_PIXELS),
    ],
)
def test_what_is_not_taken_is_refused_when_it_comes(content: bytes, reason: Refusal) -> None:
    with pytest.raises(QuarantineError) as refused:
        streamed([content])
    assert refused.value.reason in (reason, Refusal.NO_PIXELS)


def test_of_what_was_looked_at_the_report_says_so(tmp_path: Path) -> None:
    records = reread(tmp_path, streamed([saved(sample("CT_small.dcm"))]))
    assert records.report is not None
    assert records.report.text_checked
