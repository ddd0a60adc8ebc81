"""A site whose images a task cannot use is refused with its own name."""

from typing import Any

import pytest
import torch

from medgan_core.config import Study, parse_study
from medgan_core.data.fitness import check_site
from medgan_core.data.source import Card, Site, SiteData
from medgan_core.errors import DataError

DATA: dict[str, dict[str, Any]] = {
    "segmentation": {"kind": "folder", "masks": "m.zip"},
    "translation": {"kind": "nifti", "modalities": ["T1", "FLAIR"]},
    "multimodal": {"kind": "nifti", "modalities": ["T1", "FLAIR"]},
    "volume": {"kind": "nifti", "modalities": ["T1"], "depth": 8},
    "anomaly": {"kind": "npz"},
    "synthesis": {"kind": "npz"},
}


def study(task: str, **mapping: Any) -> Study:
    return parse_study(
        {"name": "x", "task": task, "data": {"path": "x"} | DATA[task], "mapping": dict(mapping)}
    )


def site(
    channels: int,
    names: tuple[str, ...] = (),
    classes: tuple[str, ...] = ("normal", "ill"),
    labels: tuple[int, ...] = (0, 1),
) -> Site:
    card = Card("x", classes, (channels, 8, 8), "OT", "patient", False, channels=names)
    images = torch.zeros(len(labels), channels, 8, 8)
    held = torch.arange(len(labels))
    data = SiteData(card, tuple(map(str, held.tolist())), held, images, torch.tensor(labels))
    return Site("north", data, data)


@pytest.mark.parametrize(
    ("task", "fitting", "wrong", "missing"),
    [
        ("segmentation", site(2, ("image", "mask")), site(1), "a mask as the last channel; it has 1"),
        ("segmentation", site(2), site(2, ("T1", "T2")), "a mask as the last channel; its images have 2"),
        ("translation", site(2), site(3, ("T1", "T2", "FLAIR")), r"two channels.*\(T1, T2, FLAIR\)"),
        ("multimodal", site(3), site(1), "two registered modalities or more; it has one"),
        ("volume", site(8), site(1), "volumes"),
        ("anomaly", site(1), site(1, classes=("normal",), labels=(0,)), "two classes; it has normal alone"),
        ("anomaly", site(1, labels=(0, 0)), site(1, labels=(1, 1)), "images of the normal class, normal"),
    ],
)
def test_what_is_missing_is_named_with_the_site(task: str, fitting: Site, wrong: Site, missing: str) -> None:
    check_site(study(task), fitting)
    with pytest.raises(DataError, match=f"^site north: task {task} needs {missing}"):
        check_site(study(task), wrong)


def test_the_normal_class_may_be_another() -> None:
    check_site(study("anomaly", normal="ill"), site(1, labels=(1, 1)))
    with pytest.raises(DataError, match="normal class healthy"):
        check_site(study("anomaly", normal="healthy"), site(1))


def test_plain_synthesis_takes_whatever_there_is() -> None:
    check_site(study("synthesis"), site(1, classes=("a",), labels=(0,)))
