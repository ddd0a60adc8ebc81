"""A cohort admits what its rules say, whatever a server filtered by, and its words hold no value."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from medgan_core.data.pacs.cohort import Cohort, fits, text_of
from medgan_core.errors import ConfigError
from tests.medgan_core.data.pacs.objects import image

FULL = Cohort(
    modalities=("CT", "MR"),
    body_parts=("CHEST",),
    begin="2024-01-01",
    end="2024-12-31",
    study_descriptions=("*chest*", "*thorax*"),
    series_descriptions=("lung ?.0",),
    sop_classes=("CTImageStorage", "1.2.840.10008.5.1.4.1.1.4"),
)
WRONG: dict[str, tuple[str, Any]] = {
    "modality": ("Modality", "DX"),
    "body part": ("BodyPartExamined", "HEAD"),
    "study date": ("StudyDate", "20250101"),
    "study description": ("StudyDescription", "CT of the head"),
    "series description": ("SeriesDescription", "Lung 10.0"),
    "SOP class": ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"),
}


def test_what_keeps_to_every_rule_is_admitted() -> None:
    assert FULL.refusal(image()) is None
    assert FULL.refusal(image(Modality="MR", StudyDescription="THORAX")) is None
    assert Cohort().refusal(Dataset()) is None


@pytest.mark.parametrize("why", WRONG)
def test_every_rule_refuses_what_is_against_it_and_what_does_not_say(why: str) -> None:
    keyword, value = WRONG[why]
    wrong, silent = image(**{keyword: value}), image()
    del silent[keyword]
    assert FULL.refusal(wrong) == FULL.contradicted(wrong) == why
    assert FULL.refusal(silent) == why
    assert FULL.contradicted(silent) is None


@pytest.mark.parametrize(
    ("day", "admitted"),
    [("20240101", True), ("20241231", True), ("20231231", False), ("2024", False), ("2024-01-01", False)],
)
def test_days_are_inclusive_and_what_is_no_day_is_refused(day: str, admitted: bool) -> None:
    header = Dataset.from_json({"00080020": {"vr": "LO", "Value": [day]}})
    assert (Cohort(begin="2024-01-01", end="2024-12-31").refusal(header) is None) == admitted


def test_queries_ask_for_no_less_than_the_cohort() -> None:
    assert FULL.queries() == [
        {"StudyDate": "20240101-20241231", "ModalitiesInStudy": "CT"},
        {"StudyDate": "20240101-20241231", "ModalitiesInStudy": "MR"},
    ]
    assert Cohort().queries() == [{}]
    assert Cohort(end="2024-12-31").queries() == [{"StudyDate": "-20241231"}]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"begin": "1.2.2024"}, r"cohort\.begin"),
        ({"end": "2024-13-01"}, r"cohort\.end"),
        ({"begin": "2024-02-01", "end": "2024-01-01"}, r"cohort\.end"),
        ({"sop_classes": ("CT",)}, r"cohort\.sop_classes"),
    ],
)
def test_a_wrong_rule_is_named(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Cohort(**changes)


def test_several_values_and_none_are_texts() -> None:
    header = image(ImageType=["ORIGINAL", "PRIMARY"], StudyDescription=None)
    assert text_of(header, "ImageType") == "ORIGINAL\\PRIMARY"
    assert text_of(header, "StudyDescription") == text_of(header, "WindowCenter") == ""


@given(st.text("abXY09 .-", min_size=1, max_size=9), st.text("aé-ß ", max_size=5))
def test_a_pattern_fits_itself_in_any_case_and_around_anything(text: str, around: str) -> None:
    assert fits(text.upper(), text.lower())
    assert fits(f"{around}{text}{around}", f"*{text}*")
