from hashlib import sha256

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgan_core.config import HELD_OUT_PERCENT
from medgan_core.data.source import Card, SiteData, is_held_out

CARD = Card("x", ("a", "b"), (1, 2, 2), "OT", "patient", False)


def _data(patients: dict[str, list[float]]) -> SiteData:
    """Patients by key with one image for each value; labels are the place of the image in its patient."""
    values = [v for images in patients.values() for v in images]
    owner = [i for i, images in enumerate(patients.values()) for _ in images]
    labels = [place for images in patients.values() for place in range(len(images))]
    images = torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()
    return SiteData(
        CARD, tuple(patients), torch.tensor(owner, dtype=torch.int64), images, torch.tensor(labels)
    )


def _images(data: SiteData) -> dict[str, list[float]]:
    values = data.images[:, 0, 0, 0]
    return {key: values[data.owner == i].tolist() for i, key in enumerate(data.patients)}


_VALUE = st.integers(-100, 100).map(float)
_PATIENTS = st.dictionaries(
    st.text(min_size=1, max_size=3), st.lists(_VALUE, min_size=1, max_size=7), min_size=1
)


@settings(max_examples=80, deadline=None)
@given(_PATIENTS, st.integers(1, 4))
def test_the_choice_of_images_is_a_function_of_that_patient_alone(
    patients: dict[str, list[float]], most: int
) -> None:
    together = _images(_data(patients).at_most(most))
    for key, images in patients.items():
        assert together[key] == _images(_data({key: images}).at_most(most))[key]
        assert len(together[key]) == min(most, len(images))
        assert all(together[key].count(v) <= images.count(v) for v in together[key])


@given(st.lists(_VALUE, min_size=2, max_size=7, unique=True))
def test_the_choice_does_not_depend_on_the_order_of_the_images(images: list[float]) -> None:
    first, second = (_images(_data({"p": i}).at_most(2))["p"] for i in (images, sorted(images)))
    assert sorted(first) == sorted(second)


def test_the_choice_keeps_labels_owners_and_order_together() -> None:
    data = _data({"a": [1.0, 2.0, 3.0], "b": [4.0], "c": [5.0, 6.0]})
    kept = data.at_most(2)
    place = {v: i for i, v in enumerate(data.images[:, 0, 0, 0].tolist())}
    values = kept.images[:, 0, 0, 0].tolist()
    assert values == sorted(values)
    assert kept.labels.tolist() == [int(data.labels[place[v]]) for v in values]
    assert kept.owner.tolist() == [int(data.owner[place[v]]) for v in values]
    assert kept.patients == data.patients
    assert torch.equal(data.at_most(3).images, data.images)


def test_the_choice_is_by_content_and_not_the_first_images() -> None:
    chosen = [_images(_data({"p": [float(v), v + 0.5]}).at_most(1))["p"][0] == v for v in range(40)]
    assert 5 < sum(chosen) < 35


def test_patients_are_taken_with_all_their_images_in_the_order_that_is_asked() -> None:
    data = _data({"a": [1.0, 2.0], "b": [3.0], "c": [4.0, 5.0]})
    part = data.of_patients([2, 0])
    assert part.patients == ("c", "a")
    assert _images(part) == {"c": [4.0, 5.0], "a": [1.0, 2.0]}
    assert len(part) == 2
    assert len(data.of_patients([])) == 0


@settings(max_examples=200)
@given(st.text())
def test_a_patient_is_held_out_by_its_key_alone(key: str) -> None:
    digest = int.from_bytes(sha256(key.encode()).digest(), "big")
    assert is_held_out(key) == (digest % 100 < 15)


def test_the_split_never_changes() -> None:
    assert HELD_OUT_PERCENT == 15
    assert [i for i in range(40) if is_held_out(f"patient-{i}")] == [9, 17, 30, 33]


def test_about_fifteen_percent_are_held_out() -> None:
    share = sum(is_held_out(str(i)) for i in range(5000)) / 5000
    assert share == pytest.approx(0.15, abs=0.025)


def test_a_key_from_a_file_name_that_is_no_utf8_has_its_place_too() -> None:
    assert is_held_out("scan-\udce9.png") in (True, False)
