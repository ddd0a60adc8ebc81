import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medgan_core.errors import InputError
from medgan_core.release.export import Format, folder_names, write_samples

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint64).reshape(3, 28, 28).astype(np.uint8)
LABELS = np.array([0, 1, 1])
CLASSES = ("normal", "pneumonia")


def _write(out: Path, kind: Format, images: np.ndarray = IMAGES, classes: tuple[str, ...] = CLASSES) -> None:
    write_samples(out, kind, images, LABELS, classes, "dp")


def test_npz_holds_three_arrays_and_the_promise(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folders" / "x.npz"
    _write(out, "npz")
    with np.load(out, allow_pickle=False) as read:
        assert set(read.files) == {"images", "labels", "classes", "privacy"}
        np.testing.assert_array_equal(read["images"], IMAGES)
        assert read["labels"].dtype == np.int64
        assert read["labels"].tolist() == [0, 1, 1]
        assert read["classes"].dtype.kind == "U"
        assert read["classes"].tolist() == list(CLASSES)
        assert str(read["privacy"]) == "dp"
    assert [path.name for path in out.parent.iterdir()] == ["x.npz"]


def test_npz_is_replaced_and_has_the_same_bytes(tmp_path: Path) -> None:
    out = tmp_path / "x"
    out.write_text("old")
    _write(out, "npz")
    first = out.read_bytes()
    _write(out, "npz")
    assert out.read_bytes() == first


def test_a_failure_leaves_the_old_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "x.npz"
    out.write_text("old")
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match="No space left"):
        _write(out, "npz")
    assert out.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_png_files_lie_in_the_folders_of_their_class(tmp_path: Path, channels: int) -> None:
    out = tmp_path / "new" / "set"
    images = IMAGES if channels == 1 else np.stack([IMAGES] * 3, axis=-1)
    _write(out, "png", images)
    with (out / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [
        {"file": "normal/000000.png", "label": "0", "class": "normal"},
        {"file": "pneumonia/000001.png", "label": "1", "class": "pneumonia"},
        {"file": "pneumonia/000002.png", "label": "1", "class": "pneumonia"},
    ]
    for row, image in zip(rows, images, strict=True):
        with Image.open(out / row["file"]) as read:
            assert read.info["Privacy"] == "dp"
            assert "synthetic" in read.info["Source"]
            np.testing.assert_array_equal(np.asarray(read), image)
    assert not (out / "NOTICE.txt").exists()
    assert [path.name for path in out.parent.iterdir()] == ["set"]


def test_not_private_is_everywhere(tmp_path: Path) -> None:
    write_samples(tmp_path / "x.npz", "npz", IMAGES, LABELS, CLASSES, "NOT PRIVATE")
    write_samples(tmp_path / "set", "png", IMAGES, LABELS, CLASSES, "NOT PRIVATE")
    with np.load(tmp_path / "x.npz") as read:
        assert str(read["privacy"]) == "NOT PRIVATE"
    assert "NOT PRIVATE" in (tmp_path / "set" / "NOTICE.txt").read_text()
    with Image.open(tmp_path / "set" / "normal" / "000000.png") as image:
        assert image.info["Privacy"] == "NOT PRIVATE"


def test_an_earlier_export_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()
    _write(out, "png", classes=("a", "b"))
    _write(out, "png")
    assert sorted(path.name for path in out.iterdir()) == ["labels.csv", "normal", "pneumonia"]
    (out / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="no earlier export"):
        _write(out, "png")
    assert (out / "mine.txt").exists()


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for out, kind in [("file", "png"), ("folder", "npz"), ("file/below/x.npz", "npz"), ("file/below", "png")]:
        with pytest.raises(InputError, match="--out"):
            _write(tmp_path / out, kind)  # type: ignore[arg-type]
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(InputError, match="Permission denied"):
        _write(tmp_path / "locked" / "x.npz", "npz")


def test_class_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    classes = ("../../etc", "a/b", "..", "labels.csv", "A_B", "")
    write_samples(tmp_path / "set", "png", IMAGES, LABELS + 1, classes, "dp")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert folder_names(classes) == ["_.._etc", "a_b", "class-2", "labels.csv-3", "A_B-4", "class-5"]


@given(st.lists(st.text(), unique=True, max_size=8))
def test_folder_names_are_safe_and_distinct(classes: list[str]) -> None:
    names = folder_names(classes)
    assert len({name.lower() for name in names}) == len(classes)
    for name in names:
        assert name
        assert name[0] != "."
        assert not set(name) & set("/\\\0:\n")
