from pathlib import Path

import pytest

from medgan_core.config import load_study
from medgan_core.data import catalog
from medgan_core.data.archives import read_archive
from medgan_core.data.catalog import PublishedSet
from medgan_core.data.source import is_held_out
from medgan_core.errors import DataError
from simulations.shipped import study_path
from tests.medgan_core.data.making import config, image_bytes, shared, write_csv, write_zip


@pytest.mark.parametrize(
    ("study", "folder", "images", "patients", "held_out"),
    [
        ("pneumonia", "pneumoniamnist", 5856, 3293, 501),
        ("chestxray64", "kermany_cxr_224", 5856, 3288, 502),
        ("mednist", "mednist_subset", 7200, 7200, 1080),
        ("mnist", "mnist", 70000, 70000, 10000),
    ],
)
def test_the_shipped_studies_read_their_published_sets(
    study: str, folder: str, images: int, patients: int, held_out: int
) -> None:
    root = shared(folder)
    data = load_study(study_path(study)).data
    archive = read_archive(data, root, name=study)
    assert (len(archive.data.images), len(archive.data), sum(archive.held_out)) == (
        images,
        patients,
        held_out,
    )
    assert archive.data.card.public
    assert archive.data.card.source == catalog.PUBLISHED[folder].address
    assert archive.data.card.unit == ("patient" if data.patients else "image")
    assert archive.data.images.shape[1:] == archive.data.card.image_shape
    assert archive.data.images.abs().max() <= 1
    assert archive.data.labels.unique().tolist() == list(range(len(data.classes)))


def test_integers_of_a_manifest_are_positions_among_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_zip(tmp_path / "set" / "i.zip", {f"{i}.png": image_bytes(seed=i) for i in range(2)})
    write_csv(tmp_path / "set" / "manifest.csv", [["file", "label"], ["0.png", "2"], ["1.png", "1"]])
    data = read_archive(config("folder", "set"), tmp_path, name="x").data
    assert (data.card.classes, data.labels.tolist()) == (("1", "2"), [1, 0])
    write_csv(tmp_path / "set" / "manifest.csv", [["file", "label"], ["0.png", "01"], ["1.png", "1"]])
    with pytest.raises(DataError, match="row 2: label '01'; expected one of 1"):
        read_archive(config("folder", "set"), tmp_path, name="x")


def test_a_patient_is_held_out_by_the_key_alone(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_zip(tmp_path / "set" / "i.zip", {f"{i}.png": image_bytes(seed=i) for i in range(40)})
    write_csv(
        tmp_path / "set" / "manifest.csv",
        [["file", "patient", "label"], *[[f"{i}.png", f"p{i // 2}", i % 2] for i in range(40)]],
    )
    archive = read_archive(config("folder", "set"), tmp_path, name="x")
    assert archive.held_out == tuple(is_held_out(f"p{i}") for i in range(20))
    assert not archive.data.card.public


def test_a_file_beside_the_published_ones_makes_a_set_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    write_zip(tmp_path / "set" / "a.zip", {"a/0.png": image_bytes()})
    digest = catalog._sha256(tmp_path / "set" / "a.zip")
    known = PublishedSet("set", "Set", "https://x", "CC0", {"a.zip": digest})
    monkeypatch.setattr(catalog, "PUBLISHED", {"set": known})
    card = read_archive(config("folder", "set"), tmp_path, name="x").data.card
    assert card.public
    assert (card.source, card.licence) == ("https://x", "CC0")
    write_zip(tmp_path / "set" / "b.zip", {"b/0.png": image_bytes(seed=1)})
    assert not read_archive(config("folder", "set"), tmp_path, name="x").data.card.public


@pytest.mark.parametrize("kind", ["idx", "npz", "folder", "dicom"])
def test_a_set_that_is_not_there_says_where_it_belongs(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=r"mnist is missing; MNIST .*MEDGAN_DATA"):
        read_archive(config(kind, "mnist"), tmp_path, name="x")
    (tmp_path / "mnist").mkdir()
    with pytest.raises(DataError, match=r"^mnist"):
        read_archive(config(kind, "mnist"), tmp_path, name="x")
