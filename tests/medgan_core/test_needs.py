"""A study whose data do not fit its task is refused by name, before anything is read."""

from typing import Any

import pytest

from medgan_core.config import LEAST_PATIENTS, SMALL_TASKS, Study, parse_study
from medgan_core.errors import ConfigError

NIFTI = {"kind": "nifti", "path": "x", "image_size": 32}
FOLDER = {"kind": "folder", "path": "x", "image_size": 32, "classes": ["a", "b"]}
FITTING: dict[str, dict[str, Any]] = {
    "synthesis": FOLDER,
    "segmentation": FOLDER | {"masks": "masks.zip"},
    "restoration": FOLDER,
    "translation": NIFTI | {"modalities": ["T1", "FLAIR"]},
    "multimodal": NIFTI | {"modalities": ["T1", "T2", "FLAIR"]},
    "volume": NIFTI | {"modalities": ["FLAIR"], "depth": 16},
    "anomaly": FOLDER,
}


def study(task: str, data: dict[str, Any], **sections: Any) -> Study:
    return parse_study({"name": "x", "task": task, "data": data} | sections)


@pytest.mark.parametrize("task", FITTING)
def test_data_that_fit_are_taken(task: str) -> None:
    assert study(task, FITTING[task]).task == task


@pytest.mark.parametrize(
    ("task", "data", "named"),
    [
        ("segmentation", FOLDER, "data.masks"),
        ("translation", NIFTI | {"modalities": ["T1"]}, "data.modalities"),
        ("translation", NIFTI | {"modalities": ["T1", "T2", "FLAIR"]}, "data.modalities"),
        ("translation", NIFTI | {"modalities": ["T1"], "depth": 16}, "data.modalities"),
        ("multimodal", NIFTI | {"modalities": ["T1"]}, "data.modalities"),
        ("multimodal", FOLDER | {"channels": 3}, "data.modalities"),
        ("volume", NIFTI | {"modalities": ["T1"]}, "data.depth"),
        ("anomaly", FOLDER | {"classes": ["a"]}, "data.classes"),
        ("anomaly", NIFTI | {"modalities": ["T1"]}, "data.classes"),
    ],
)
def test_data_that_do_not_fit_are_refused_by_the_key_that_is_wrong(
    task: str, data: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=f"task = {task}") as caught:
        study(task, data)
    assert caught.value.name == named


def test_a_normal_class_that_is_none_of_the_classes_is_refused() -> None:
    assert study("anomaly", FOLDER, mapping={"normal": "b"}).mapping.normal == "b"
    with pytest.raises(ConfigError, match="one of a, b"):
        study("anomaly", FOLDER, mapping={"normal": "healthy"})


@pytest.mark.parametrize("task", sorted(SMALL_TASKS))
def test_a_private_run_on_a_few_patients_is_refused_and_an_open_one_is_not(task: str) -> None:
    few = {"sites": {"count": 3, "nominal_patients": LEAST_PATIENTS // 3}}
    enough = {"sites": {"count": 3, "nominal_patients": LEAST_PATIENTS // 3 + 1}}
    study(task, FITTING[task], **enough)
    study(task, FITTING[task], **few, privacy={"mode": "off"})
    with pytest.raises(ConfigError, match=f"{LEAST_PATIENTS} patients or more") as caught:
        study(task, FITTING[task], **few)
    assert caught.value.name == "sites.nominal_patients"


def test_volumes_have_no_joint_steps() -> None:
    data = FITTING["volume"] | {"classes": ["brain"]}
    with pytest.raises(ConfigError, match="share"):
        study("volume", data, share="gradient", privacy={"secure_sum": True})


def test_one_class_needs_no_gate_and_several_do() -> None:
    assert not study("multimodal", FITTING["multimodal"]).gated
    assert not study("synthesis", FOLDER | {"classes": ["a"]}).gated
    assert study("synthesis", FOLDER).gated
