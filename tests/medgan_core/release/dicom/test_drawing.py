"""From a release to files: whole sets, a single one of them again, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels.processing import apply_modality_lut

from medgan_core.data.dicom.windows import CT_WINDOWS
from medgan_core.errors import InputError, RefusedError
from medgan_core.release.bundle import Release
from medgan_core.release.dicom.drawing import Asked, modality_of, runs, write_release
from tests.medgan_core.data.dicom.making import pixels, saved
from tests.medgan_core.release.conftest import public_folder
from tests.medgan_core.release.dicom.making import files, read
from tests.medgan_core.release.making import CARD, build

__all__ = ["public_folder"]


@pytest.fixture(scope="module")
def of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Release]:
    """A release of each declared modality."""
    root = tmp_path_factory.mktemp("releases")
    grey = {m: build(root / m, card=replace(CARD, modality=m)) for m in ("CT", "OT")}
    card = replace(CARD, image_shape=(3, 32, 32), modality="XC")
    colour = build(root / "XC", {"data.image_size": 32, "data.channels": 3}, card, proportions=())
    return grey | {"XC": colour}


def test_one_file_of_many_can_be_made_again_alone(release: Release, tmp_path: Path) -> None:
    write_release(tmp_path / "all", release, {"normal": 3, "pneumonia": 67}, 5, Asked())
    write_release(tmp_path / "one", release, {"pneumonia": 1}, 5, Asked(first=68))
    (alone,) = files(tmp_path / "one")
    assert (
        "image 68 of class pneumonia"
        in read(tmp_path / "one")[0].ContributingEquipmentSequence[0]["ContributionDescription"].value
    )
    same = [path for path in files(tmp_path / "all") if path.read_bytes() == alone.read_bytes()]
    assert [path.parent.parent.parent.name for path in same] == ["PT000068"]


def test_the_same_seed_gives_the_same_files_and_another_does_not(release: Release, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_release(tmp_path / name, release, 4, seed, Asked())
    one, two, three = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in "abc"
    )
    assert one == two
    assert not set(one.values()) & set(three.values())


def test_pixels_are_those_of_the_release(release: Release, tmp_path: Path) -> None:
    write_release(tmp_path / "x", release, 4, 5, Asked(modality="SC"))
    images, labels = release.sample(4, 5)
    made = read(tmp_path / "x")
    np.testing.assert_array_equal([d.pixel_array for d in made], images)
    assert [d.SeriesDescription for d in made] == [release.facts.classes[label] for label in labels]


def test_series_of_slices_are_uniform(of: dict[str, Release], tmp_path: Path) -> None:
    asked = Asked(slices=3, spacing=2.0, thickness=4.0, body_part="HEAD")
    assert write_release(tmp_path / "x", of["CT"], {"normal": 4, "pneumonia": 2}, 1, asked) == 6
    made = read(tmp_path / "x")
    uids = dict.fromkeys(d.SeriesInstanceUID for d in made)
    series = [[d for d in made if d.SeriesInstanceUID == uid] for uid in uids]
    assert [len(slices) for slices in series] == [3, 1, 2]
    for slices in series:
        assert {d.BodyPartExamined for d in slices} == {"HEAD"}
        assert np.diff([d.ImagePositionPatient[2] for d in slices]).tolist() == [4.0] * (len(slices) - 1)
        assert {tuple(d.PixelSpacing) for d in slices} == {(2.0, 2.0)}
        assert len({d.FrameOfReferenceUID for d in slices}) == 1


@pytest.mark.parametrize("name", ["lung", "bone", "brain"])
def test_ct_is_in_the_window_of_its_study(tmp_path: Path, name: str) -> None:
    release = build(tmp_path / name, {"data.window": name}, replace(CARD, modality="CT"))
    centre, width = CT_WINDOWS[name]
    write_release(tmp_path / "x", release, 3, 5, Asked())
    images, _ = release.sample(3, 5)
    for dataset, levels in zip(read(tmp_path / "x"), images, strict=True):
        assert (float(dataset.WindowCenter), float(dataset.WindowWidth)) == (centre, width)
        hounsfield = apply_modality_lut(dataset.pixel_array, dataset)
        assert np.abs(hounsfield - (centre - width / 2 + levels * width / 255)).max() <= 0.5
    for path, levels in zip(files(tmp_path / "x"), images, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.SyntheticData = "NO"  # else nothing would read it as data
        again = pixels(saved(dataset), window=name)
        assert np.abs(again * 255 - levels).max() <= 0.5 * 255 / width + 1e-3


def test_ct_in_the_files_own_windows_has_no_hu(tmp_path: Path) -> None:
    release = build(tmp_path / "r", {"data.window": "file"}, replace(CARD, modality="CT"))
    assert modality_of(release, None) == "SC"
    with pytest.raises(InputError, match="no HU; expected SC"):
        modality_of(release, "CT")


def test_a_modality_is_no_lie(of: dict[str, Release], release: Release) -> None:
    assert modality_of(release, None) == "DX"
    assert modality_of(release, "SC") == "SC"
    assert modality_of(of["CT"], None) == "CT"
    assert modality_of(of["OT"], None) == "SC"
    assert modality_of(of["OT"], "MR") == "MR"
    assert modality_of(of["XC"], None) == "SC"
    with pytest.raises(InputError, match="learned from DX; expected DX or SC"):
        modality_of(release, "CT")
    with pytest.raises(InputError, match="learned from XC; expected SC"):
        modality_of(of["XC"], "DX")


def test_colour_is_written_as_sc(of: dict[str, Release], tmp_path: Path) -> None:
    write_release(tmp_path / "x", of["XC"], 2, 1, Asked())
    assert {d.PhotometricInterpretation for d in read(tmp_path / "x")} == {"RGB"}


def test_without_privacy_nothing_is_written(public_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="NOT PRIVATE"):
        write_release(tmp_path / "x", Release.open(public_folder), 2, 1, Asked())
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("slices", [0, 10_001])
def test_slices_have_bounds(slices: int) -> None:
    with pytest.raises(InputError, match="slices"):
        Asked(slices=slices)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(1, 7))
def test_runs_cover_everything_once_and_never_mix(labels: list[int], most: int) -> None:
    array = np.array(labels)
    found = list(runs(array, most))
    assert [place for start, stop in found for place in range(start, stop)] == list(range(len(labels)))
    for start, stop in found:
        assert 1 <= stop - start <= most
        assert len(set(labels[start:stop])) == 1
