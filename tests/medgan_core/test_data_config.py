from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgan_core.config import parse_study
from medgan_core.data_config import DataConfig, modality_of
from medgan_core.errors import ConfigError


def _data(**rest: Any) -> DataConfig:
    return parse_study({"name": "x", "data": {"kind": "folder", "path": "x"} | rest}).data


def _nifti(*modalities: str, **rest: Any) -> DataConfig:
    return _data(kind="nifti", modalities=list(modalities), **rest)


@pytest.mark.parametrize(
    ("data", "names", "channels"),
    [
        (_data(), (), 1),
        (_data(channels=3), (), 3),
        (_data(masks="m.zip"), ("image", "mask"), 2),
        (_data(masks="m.zip", channels=3), ("red", "green", "blue", "mask"), 4),
        (_nifti("T1"), ("T1",), 1),
        (_nifti("T1", "FLAIR"), ("T1", "FLAIR"), 2),
        (_nifti("FLAIR", masks="LESION"), ("FLAIR", "mask"), 2),
        (_nifti("T1", depth=8), tuple(f"slice {i}" for i in range(8)), 8),
        (_data(kind="dicom", depth=32, patches=3), tuple(f"slice {i}" for i in range(32)), 32),
    ],
)
def test_channels_are_named_and_counted(data: DataConfig, names: tuple[str, ...], channels: int) -> None:
    assert data.channel_names == names
    assert data.image_channels == channels
    assert data.image_shape == (channels, 28, 28)
    assert DataConfig.model_validate(data.model_dump()) == data


NIFTI = {"kind": "nifti", "modalities": ["T1"]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"kind": "npz", "modalities": ["T1"]},
            r"data.modalities = \('T1',\): expected \[\] with data.kind = npz",
        ),
        ({"kind": "npz", "masks": "m.zip"}, "data.masks = 'm.zip': expected \"\" with data.kind = npz"),
        ({"kind": "dicom", "masks": "m.zip"}, "data.masks"),
        ({"kind": "nifti"}, "data.modalities = .*: expected the names that the files end in"),
        ({**NIFTI, "channels": 3}, "data.channels = 3: expected 1 with data.kind = nifti"),
        ({**NIFTI, "classes": ["a", "b"]}, "data.classes = .*: expected one at most"),
        ({**NIFTI, "patients": "p.csv"}, "data.patients = 'p.csv'"),
        ({**NIFTI, "labels": "p.csv"}, "data.labels = 'p.csv'"),
        ({**NIFTI, "modalities": ["T1", "T1W"]}, "data.modalities = .*: expected each once"),
        ({**NIFTI, "masks": "t1"}, "data.modalities = .*: expected each once, data.masks too"),
        ({**NIFTI, "modalities": ["mask"]}, "data.modalities = .*: expected letters and digits, and no mask"),
        ({**NIFTI, "modalities": ["../T1"]}, "data.modalities = .*: expected letters and digits"),
        (
            {**NIFTI, "modalities": ["T1", "T2"], "depth": 8},
            "data.modalities = .*: expected one with data.depth = 8",
        ),
        (
            {**NIFTI, "masks": "LESION", "depth": 8},
            "data.masks = 'LESION': expected \"\" with data.depth = 8",
        ),
        ({**NIFTI, "depth": 7}, "data.depth = 7: expected 0, or at least 8"),
        ({**NIFTI, "depth": 65}, "data.depth = 65: expected less than or equal to 64"),
        ({**NIFTI, "patches": 2}, "data.patches = 2: expected 1, or data.depth above 0"),
        ({"depth": 8}, "data.depth = 8: expected 0 with data.kind = folder"),
        ({"kind": "dicom", "depth": 8, "channels": 3}, "data.channels = 3: expected 1 with data.depth = 8"),
        (
            {"kind": "dicom", "depth": 8, "slice_spacing": 1.0},
            "data.slice_spacing = 1.0: expected 0 with data.depth",
        ),
        (
            {"kind": "dicom", "depth": 8, "stack": 3, "channels": 1},
            "data.stack = 3: expected 1 with data.depth",
        ),
        ({"hold_out": ["p", "p"]}, "data.hold_out = .*: expected every patient once"),
        (
            {"hold_out": ["p"], "split": "official"},
            r"data.hold_out = .*: expected \[\] with data.split = official",
        ),
    ],
)
def test_what_makes_no_sense_together_is_refused_by_name(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _data(**data)


@given(st.text("aTtwW12fF", min_size=1))
def test_a_modality_has_one_name_however_it_is_written(name: str) -> None:
    assert modality_of(name) == modality_of(name.lower()) == modality_of(modality_of(name))
    assert modality_of("t1w") == "T1"
