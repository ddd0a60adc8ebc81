"""Channels that are no colours: modalities of one patient and slices of a volume, wherever they are shown."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medgan_core.errors import InputError
from medgan_core.release.bundle import Release
from medgan_core.release.dicom.drawing import Asked, modality_of, write_release
from medgan_core.release.export import write_samples
from medgan_core.release.pictures import panel_grid, side_by_side
from tests.medgan_core.release.making import CARD, build

NIFTI = {"data.kind": "nifti", "data.path": "open_ms_mri", "data.classes": ["brain"]}
MODALITIES = ("T1", "T2", "FLAIR")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Release:
    asked = NIFTI | {"task": "multimodal", "data.modalities": list(MODALITIES), "data.image_size": 28}
    card = replace(CARD, classes=("brain",), image_shape=(3, 28, 28), modality="MR", channels=MODALITIES)
    return build(tmp_path_factory.mktemp("multimodal"), asked, card, proportions=())


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Release:
    asked = NIFTI | {"task": "volume", "data.modalities": ["FLAIR"], "data.depth": 12}
    names = tuple(f"slice {i}" for i in range(12))
    card = replace(CARD, classes=("brain",), image_shape=(12, 28, 28), modality="MR", channels=names)
    return build(tmp_path_factory.mktemp("volume"), asked, card, proportions=())


def test_samples_have_an_axis_of_channels_with_their_names(several: Release, volumes: Release) -> None:
    for release, channels in ((several, 3), (volumes, 12)):
        images, labels = release.sample(2, seed=1)
        assert images.shape == (2, 28, 28, channels)
        assert images.dtype == np.uint8
        assert labels.tolist() == [0, 0]
        assert len(release.channels) == channels
        assert np.array_equal(release.sample(1, seed=1, first=1)[0][0], images[1])
    assert several.channels == MODALITIES


def test_a_png_shows_channels_beside_each_other_and_an_npz_keeps_them(
    several: Release, tmp_path: Path
) -> None:
    images, labels = several.sample(2, seed=1)
    for kind, out in (("png", tmp_path / "png"), ("npz", tmp_path / "x.npz")):
        write_samples(out, kind, images, labels, ("brain",), "dp", apart=True)  # type: ignore[arg-type]
    shown = np.asarray(Image.open(tmp_path / "png" / "brain" / "000001.png"))
    assert shown.shape == (28, 84)
    for channel in range(3):
        assert np.array_equal(shown[:, 28 * channel : 28 * (channel + 1)], images[1, :, :, channel])
    with np.load(tmp_path / "x.npz") as kept:
        assert np.array_equal(kept["images"], images)


def test_modalities_are_not_written_as_the_colours_of_one_picture(
    several: Release, volumes: Release, tmp_path: Path
) -> None:
    for release, named in ((several, "T1 to FLAIR"), (volumes, "slice 0 to slice 11")):
        with pytest.raises(InputError, match=rf"{named}\) are no colours"):
            modality_of(release, "SC")
        with pytest.raises(InputError, match="use --format npz or png"):
            write_release(tmp_path / "dicom", release, 1, 0, Asked())
    assert not (tmp_path / "dicom").exists()


def test_at_most_eight_channels_are_shown_the_first_and_the_last_among_them() -> None:
    volume = torch.arange(32.0)[None, :, None, None].expand(2, 32, 64, 64)
    row = side_by_side(volume)
    assert row.shape == (2, 1, 64, 8 * 64)
    assert row[0, 0, 0, ::64].tolist() == [0, 4, 9, 13, 18, 22, 27, 31]
    assert side_by_side(torch.zeros(1, 3, 28, 28)).shape == (1, 1, 56, 3 * 56)


def test_a_column_may_have_fewer_images_than_another() -> None:
    few, many = torch.ones(1, 1, 64, 64), torch.ones(3, 1, 64, 64)
    png = panel_grid(
        [("real", few), ("synthetic", many)], private=True, epsilon=1, delta=1e-5, unit="patient", title="x"
    )
    with Image.open(BytesIO(png)) as shown:
        assert shown.height > 3 * 64
