from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.tag import Tag

from medgan_core.release.anonymize.headers import Patient, clean_header, new_uid
from medgan_core.release.anonymize.identifiers import PseudonymKey

KEY = PseudonymKey(bytes(range(32)))
PATIENT = Patient.of(KEY, "issuer", "4711")
CANARY = "Quisling"
_TEXT = [
    k for k, t in keyword_dict.items() if dictionary_VR(t) in ("LO", "SH", "LT", "ST", "UT", "UC", "PN", "CS")
]


def image(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def item(code: str, scheme: str, meaning: str) -> Dataset:
    return image(CodeValue=code, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


@given(st.lists(st.sampled_from(_TEXT), min_size=1, max_size=12), st.integers(0, 3))
def test_no_text_of_any_attribute_survives_at_any_depth(keywords: list[str], depth: int) -> None:
    inner = image(**dict.fromkeys(keywords, CANARY.upper()))
    for _ in range(depth):
        inner = image(PerFrameFunctionalGroupsSequence=[inner], ReferencedImageSequence=[inner])
    assert CANARY.lower() not in str(clean_header(inner, PATIENT)).lower()


def test_numbers_are_written_anew_and_wrong_ones_go() -> None:
    made = clean_header(
        image(Rows=4, PixelSpacing=["0.50", "0.5"], KVP="120.0 ", SliceThickness="1", InstanceNumber="7"),
        PATIENT,
    )
    assert (made.Rows, made.PixelSpacing, made.KVP, made.InstanceNumber) == (4, [0.5, 0.5], 120, 7)
    assert str(made.PixelSpacing[0]) == "0.5"
    wrong = Dataset()
    wrong.add_new(Tag("KVP"), "LO", CANARY)
    wrong.add_new(Tag("Rows"), "UN", b"Quisling")
    assert CANARY not in str(clean_header(wrong, PATIENT))


def test_terms_stay_where_they_are_on_their_list() -> None:
    made = clean_header(
        image(
            Modality="CT", BodyPartExamined="SMITHS HEAD", ImageType=["ORIGINAL", "PRIMARY", "SMITH", "AXIAL"]
        ),
        PATIENT,
    )
    assert made.Modality == "CT"
    assert made.ImageType == ["ORIGINAL", "PRIMARY"]
    assert "BodyPartExamined" not in made


def test_codes_of_the_standard_stay_with_its_meaning() -> None:
    made = clean_header(
        image(
            AnatomicRegionSequence=[item("51185008", "SCT", "of Mr Smith")],
            ViewCodeSequence=[item("SMITH", "99SMITH", "Smith")],
        ),
        PATIENT,
    )
    assert made.AnatomicRegionSequence[0].CodeMeaning.startswith("Thoracic structure")
    assert "ViewCodeSequence" not in made
    retired = clean_header(image(AnatomicRegionSequence=[item("T-D3000", "SRT", "Chest")]), PATIENT)
    assert retired.AnatomicRegionSequence[0].CodingSchemeDesignator == "SCT"


@pytest.mark.parametrize(
    ("age", "kept"),
    [("045Y", "045Y"), ("089Y", "089Y"), ("090Y", "090Y"), ("104Y", "090Y"), ("006M", "006M")],
)
def test_ages_above_89_become_90(age: str, kept: str) -> None:
    assert clean_header(image(PatientAge=age), PATIENT).PatientAge == kept


@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")
@pytest.mark.parametrize("age", ["45", "45 Y", "ABCY", "0045Y"])
def test_what_is_no_age_goes(age: str) -> None:
    dataset = Dataset()
    dataset.add_new(0x00101010, "AS", age)
    assert not clean_header(dataset, PATIENT).get("PatientAge")


def test_identifiers_agree_wherever_they_are_mentioned() -> None:
    made = clean_header(
        image(
            SOPClassUID="1.2.840.10008.5.1.4.1.1.2",
            SOPInstanceUID="1.2.3",
            ReferencedImageSequence=[image(ReferencedSOPInstanceUID="1.2.3", PatientName="Smith")],
        ),
        PATIENT,
    )
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert made.SOPInstanceUID.startswith("2.25.")
    (reference,) = made.ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == made.SOPInstanceUID
    assert reference.PatientName == PATIENT.pseudonym
    assert new_uid("1.2.3", KEY) != new_uid("1.2.3", PseudonymKey(b"x" * 32))


def test_what_a_viewer_needs_is_there_though_empty() -> None:
    made = clean_header(Dataset(), PATIENT)
    for keyword in ("PatientBirthDate", "StudyDate", "AccessionNumber", "Manufacturer"):
        assert keyword in made
    assert made.PatientID == PATIENT.pseudonym


def test_a_deep_nest_ends() -> None:
    inner = image(Rows=1)
    for _ in range(50):
        inner = image(SharedFunctionalGroupsSequence=[inner])
    assert str(clean_header(inner, PATIENT)).count("Functional") < 12


def test_a_table_of_values_has_no_more_than_it_says() -> None:
    table = image(LUTDescriptor=[2, 0, 8], ModalityLUTType="HU", LUTExplanation=CANARY)
    table.add_new(0x00283006, "OW", b"\x01\x00\x02\x00" + CANARY.encode())
    made = clean_header(image(ModalityLUTSequence=[table]), PATIENT)
    assert made.ModalityLUTSequence[0].LUTData == [1, 2]
    assert "LUTExplanation" not in made.ModalityLUTSequence[0]
