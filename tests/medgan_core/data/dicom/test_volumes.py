from pathlib import Path

import pytest

from medgan_core.data.archives import read_archive
from medgan_core.errors import DataError
from tests.medgan_core.data.making import config, shared, write_zip


def test_a_head_of_uneven_slices_is_one_volume() -> None:
    root = shared("dicom_samples")
    asked = {"window": "brain", "depth": 32, "image_size": 64, "classes": ["head"]}
    data = read_archive(config("dicom", "dicom_samples/ct_head_ge.zip", **asked), root, name="head").data
    assert data.images.shape == (1, 32, 64, 64)
    assert data.card.public
    assert data.card.image_shape == (32, 64, 64)
    assert len(data) == 1
    bone = (data.images[0] > 0.9).float().mean(dim=(1, 2))
    assert bone[:8].mean() > bone[-1]  # feet first: the base of the skull, not its top
    steps = (data.images[0, 1:] - data.images[0, :-1]).abs().mean(dim=(1, 2))
    assert steps.max() < 0.3  # neighbours are alike


def test_a_zip_without_a_volume_is_refused(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"0.dcm": b"no DICOM"})
    with pytest.raises(DataError, match=r"a.zip holds no volume that can be read: 1 files: no DICOM file"):
        read_archive(config("dicom", "a.zip", depth=8), tmp_path, name="x")
