"""Labels from a table, from an attribute, from a real segmentation; and none where none is written down."""

import io
import os
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from medgan_core.data.pacs.headers import quiet
from medgan_core.data.pacs.labels import OneLabel, SegmentLabels, TableLabels, TagLabels
from medgan_core.data.places import Place
from medgan_core.errors import ConfigError, DataError
from tests.medgan_core.data.pacs.objects import PATIENT, image

SAMPLES = Path(os.environ.get("MEDGAN_DATA", "../shared/data")) / "dicom_samples" / "dcmqi_ct_seg_sr.zip"
needs_samples = pytest.mark.skipif(not SAMPLES.is_file(), reason="needs dicom_samples in $MEDGAN_DATA")


def table(folder: Path, text: str) -> TableLabels:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return TableLabels.read(Place(folder, path), path)


@pytest.mark.parametrize(
    ("column", "value"),
    [("patient", f"{PATIENT}-1"), ("study", "2.25.1"), ("series", "2.25.1.1"), ("object", "2.25.1.1.1")],
)
def test_a_row_speaks_of_what_it_names(tmp_path: Path, column: str, value: str) -> None:
    labels = table(tmp_path, f"{column},label\nother,ill\n{value},healthy\n")
    assert labels.label_of(image(1)) == "healthy"
    assert labels.label_of(image(1, study="2")) is None
    assert (labels.label_of(image(2)) is None) == (column == "object")


def test_a_row_with_two_keys_has_to_agree_in_both(tmp_path: Path) -> None:
    labels = table(tmp_path, f"patient,study,label\n{PATIENT}-1,2.25.1,a\n{PATIENT}-1,2.25.2,b\n")
    assert labels.label_of(image(1)) == "a"
    assert labels.label_of(image(1, PatientID=f"{PATIENT}-2")) is None


def test_a_series_is_worth_fetching_unless_no_row_can_agree(tmp_path: Path) -> None:
    labels = table(tmp_path, "study,object,label\n2.25.1,2.25.1.1.1,a\n")
    told = Dataset()
    assert labels.worth(told) is None
    told.StudyInstanceUID = "2.25.1"
    assert labels.worth(told) is None
    told.StudyInstanceUID = "2.25.2"
    assert labels.worth(told) == "no label"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file,label\na,b\n", "none of the columns"),
        ("patient,label\nLovelace,\n", "row 2: a value is blank"),
        ("patient,label\nLovelace,a\nLovelace,b\n", "row 3: another label"),
        ("patient\nLovelace\n", "no column label"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_without_its_values(
    tmp_path: Path, text: str, why: str
) -> None:
    with pytest.raises(DataError, match=why) as caught:
        table(tmp_path, text)
    assert "Lovelace" not in str(caught.value)


@pytest.mark.parametrize("tag", ["StudyDescription", "0008,1030", "(0008, 1030)"])
def test_an_attribute_is_mapped_and_its_text_never_is_a_label(tag: str) -> None:
    labels = TagLabels.of(tag, {"*chest*": "chest", "ct*": "other"})
    assert labels.label_of(image()) == "chest"
    assert labels.label_of(image(StudyDescription="CT of the head")) == "other"
    assert labels.label_of(image(StudyDescription="Lovelace")) is None
    assert labels.worth(image(StudyDescription="Lovelace")) == "no label"
    assert labels.worth(Dataset()) is None


@pytest.mark.parametrize(
    ("tag", "patterns"),
    [("NoSuchThing", {"a": "b"}), ("9999,99", {"a": "b"}), ("x,y", {"a": "b"}), ("Modality", {})],
)
def test_a_tag_that_is_none_is_named(tag: str, patterns: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"source\.label"):
        TagLabels.of(tag, patterns)


def test_one_label_is_that_of_all() -> None:
    assert OneLabel("x").label_of(image()) == "x"
    assert OneLabel("x").worth(image()) is None


@cache
def samples() -> tuple[bytes, list[Dataset]]:
    """A segmentation of a liver, and the three slices that it is of."""
    with zipfile.ZipFile(SAMPLES) as archive:
        names = [name for name in archive.namelist() if name.startswith("segmentations/ct-3slice/0")]
        return archive.read("segmentations/liver.dcm"), [
            pydicom.dcmread(io.BytesIO(archive.read(name))) for name in sorted(names)
        ]


@needs_samples
def test_a_real_segmentation_gives_label_and_mask() -> None:
    segmentation, slices = samples()
    labels = SegmentLabels({"liver": "organ"})
    assert labels.label_of(slices[0]) is None
    assert labels.mask_of(slices[0]) is None
    with quiet():
        labels.add(segmentation)
    found = 0.0
    for header in slices:
        mask = labels.mask_of(header)
        assert mask is not None
        assert mask.shape == (1, header.Rows, header.Columns)
        assert mask.dtype == np.float32
        found += float(mask.sum())
        assert set(np.unique(mask)) == {0.0, 1.0}
        assert labels.label_of(header) == "organ"
    expected = pydicom.dcmread(io.BytesIO(segmentation)).pixel_array.astype(np.float32).sum()
    assert found == expected
    labels.forget(str(slices[0].StudyInstanceUID))
    assert labels.label_of(slices[0]) is None


@needs_samples
def test_an_image_without_a_segment_has_the_label_that_was_given_for_it() -> None:
    segmentation, slices = samples()
    for patterns, without, expected in (
        ({"kidney": "organ"}, "", None),
        ({"kidney": "organ"}, "none", "none"),
    ):
        labels = SegmentLabels(patterns, without)
        with quiet():
            labels.add(segmentation)
        assert labels.label_of(slices[0]) == expected
        mask = labels.mask_of(slices[0])
        assert mask is not None
        assert not mask.any()
        assert labels.label_of(image()) is None  # of a study that nobody segmented


def test_what_is_no_segmentation_is_refused() -> None:
    labels = SegmentLabels({"*": "x"})
    for content in (b"", b"no DICOM", b"\0" * 200):
        with quiet(), pytest.raises(DataError, match="segmentation cannot be read"):
            labels.add(content)
    with pytest.raises(ConfigError, match=r"source\.label\.map"):
        SegmentLabels({})
