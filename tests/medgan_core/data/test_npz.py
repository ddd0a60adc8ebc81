import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medgan_core.data.archives import read_archive
from medgan_core.errors import ConfigError, DataError
from tests.medgan_core.data.making import config, pictures, write_csv


def _save(root: Path, **arrays: Any) -> Path:
    path = root / "set" / "a.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def _split(root: Path) -> Path:
    return _save(
        root,
        train_images=pictures(6, seed=1),
        train_labels=np.array([[0], [1], [1], [0], [1], [0]], dtype=np.uint8),
        val_images=pictures(2, seed=2),
        val_labels=np.array([[1], [1]], dtype=np.uint8),
        test_images=pictures(4, seed=3),
        test_labels=np.array([[0], [1], [0], [1]], dtype=np.uint8),
    )


def test_splits_are_pooled_in_their_order_and_images_are_their_own_patients(tmp_path: Path) -> None:
    _split(tmp_path)
    archive = read_archive(config("npz", "set/a.npz"), tmp_path, name="mine")
    assert archive.data.card.unit == "image"
    assert archive.data.card.classes == ("0", "1")
    assert not archive.data.card.public
    assert archive.data.patients == tuple(f"img{i}" for i in range(12))
    assert archive.data.labels.tolist() == [0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1]
    expected = torch.from_numpy(pictures(2, seed=2)).float() / 127.5 - 1
    assert torch.allclose(archive.data.images[6:8, 0], expected, atol=1e-6)
    assert archive.site_of is None


def test_the_official_split_holds_out_whole_patients(tmp_path: Path) -> None:
    _split(tmp_path)
    keys = ["a", "a", "b", "c", "", "c", "d", "d", "b", "e", "e", "f"]
    write_csv(
        tmp_path / "set" / "p.csv",
        [
            ["patient"],
            *[
                [
                    k,
                ]
                for k in keys[:4]
            ],
            ['""'],
            *[[k] for k in keys[5:]],
        ],
    )
    data = config("npz", "set/a.npz", patients="p.csv", split="official")
    archive = read_archive(data, tmp_path, name="mine")
    assert archive.data.card.unit == "patient"
    held = dict(zip(archive.data.patients, archive.held_out, strict=True))
    assert {k: held[k] for k in "abcdef"} == dict(
        zip("abcdef", [False, True, False, False, True, True], strict=True)
    )


@pytest.mark.parametrize("columns", ["split,index", "index", "order"])
def test_patients_may_be_named_by_split_by_index_or_by_order(tmp_path: Path, columns: str) -> None:
    _split(tmp_path)
    places = (
        [("train", i) for i in range(6)] + [("val", i) for i in range(2)] + [("test", i) for i in range(4)]
    )
    rows: list[list[object]] = [[s, i, n, "" if n == 3 else f"p{n // 2}"] for n, (s, i) in enumerate(places)]
    header = ["split", "index", "pooled", "patient_key"]
    if columns == "index":
        header = ["was", "within", "index", "patient_key"]
    if columns == "order":
        header = ["was", "within", "pooled", "patient_key"]
    else:
        rows.reverse()
    write_csv(tmp_path / "links" / "p.csv", [header, *rows])
    data = config("npz", "set/a.npz", patients="links/p.csv:patient_key")
    archive = read_archive(data, tmp_path, name="mine")
    assert archive.data.patients == ("p0", "p1", "img3", "p2", "p3", "p4", "p5")
    assert archive.data.owner.tolist() == [0, 0, 1, 2, 3, 3, 4, 4, 5, 5, 6, 6]


def test_plain_arrays_colour_floats_and_labels_of_a_table(tmp_path: Path) -> None:
    _save(tmp_path, images=np.random.default_rng(0).random((4, 30, 20, 3)))
    write_csv(tmp_path / "set" / "l.csv", [["label"], ["wolf"], ["ape"], ["wolf"], ["cat"]])
    archive = read_archive(config("npz", "set/a.npz", labels="l.csv", channels=3), tmp_path, name="mine")
    assert archive.data.images.shape == (4, 3, 28, 28)
    assert archive.data.card.classes == ("ape", "cat", "wolf")
    assert archive.data.labels.tolist() == [2, 0, 2, 1]
    declared = config("npz", "set/a.npz", labels="l.csv", classes=("wolf", "cat", "ape"))
    assert read_archive(declared, tmp_path, name="mine").data.labels.tolist() == [0, 2, 0, 1]


def test_undeclared_classes_are_those_that_there_are(tmp_path: Path) -> None:
    _save(tmp_path, images=pictures(4), labels=np.array([10, 2, 1, 2]))
    data = read_archive(config("npz", "set/a.npz"), tmp_path, name="mine").data
    assert data.card.classes == ("1", "2", "10")
    assert data.labels.tolist() == [2, 1, 0, 1]
    declared = config("npz", "set/a.npz", classes=("10", "2", "nobody", "1"))
    data = read_archive(declared, tmp_path, name="mine").data
    assert data.card.classes == ("10", "2", "nobody", "1")
    assert data.labels.tolist() == [0, 1, 3, 1]


_GOOD = {"images": pictures(3), "labels": np.array([0, 1, 0])}


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"labels": _GOOD["labels"]}, "no array images"),
        ({"images": _GOOD["images"]}, "no array labels"),
        ({**_GOOD, "labels": np.array([0, 1])}, r"shape 2 .* expected 3 integers"),
        ({**_GOOD, "labels": np.array([0.0, 1.0, 0.5])}, "type float64; expected 3 integers"),
        ({**_GOOD, "labels": np.array([0, -1, 0])}, "row 1: label '-1'"),
        ({**_GOOD, "labels": np.array(["a", "", "a"])}, "row 1: label is blank"),
        ({"images": pictures(1001, 8), "labels": np.arange(1001)}, "1001 classes; expected at most 1000"),
        ({**_GOOD, "images": _GOOD["images"][:0], "labels": _GOOD["labels"][:0]}, "one image at least"),
        ({**_GOOD, "images": _GOOD["images"][:, :7]}, "8×8 pixels"),
        ({**_GOOD, "images": _GOOD["images"].reshape(3, -1)}, "shape 3×784"),
        ({**_GOOD, "images": np.repeat(_GOOD["images"][..., None], 4, 3)}, "1 or 3"),
        ({**_GOOD, "images": _GOOD["images"].astype(np.int16)}, "type int16"),
        ({**_GOOD, "images": np.full((3, 28, 28), np.nan)}, "image 0 has a pixel that is no number"),
        ({**_GOOD, "images": np.full((3, 28, 28), 1.5)}, r"no number in \[0, 1\]"),
        ({**_GOOD, "images": np.array([None, "x"], dtype=object)}, "cannot be read"),
        (
            {
                "train_images": pictures(1),
                "train_labels": [0],
                "val_images": pictures(1, 30),
                "val_labels": [0],
            },
            "differ",
        ),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(tmp_path: Path, arrays: dict[str, Any], expected: str) -> None:
    _save(tmp_path, **arrays)
    classes = ("0", "1") if "label '-1'" in expected else ()
    with pytest.raises(DataError, match=expected) as caught:
        read_archive(config("npz", "set/a.npz", classes=classes), tmp_path, name="mine")
    assert str(caught.value).startswith("set/a.npz")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([["patient"], ["a"], ["b"]], "has 2 rows for the 3 images of set/a.npz"),
        ([["index", "patient"], [0, "a"], [1, "b"], [1, "c"]], "row 4: 1 names the image of set/p.csv row 3"),
        ([["index", "patient"], [0, "a"], [1, "b"], [3, "c"]], "row 4: 3 names no image"),
        ([["index", "patient"], [0, "a"], [1, "b"], ["-1", "c"]], "row 4: -1 names no image"),
        (
            [["split", "index", "patient"], ["dev", 0, "a"], ["dev", 1, "b"], ["", 2, "c"]],
            "dev 0 names no image",
        ),
        ([["index", "name"], [0, "a"], [1, "b"], [2, "c"]], "no column patient or patient_key"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, rows: list[list[object]], expected: str) -> None:
    _save(tmp_path, **_GOOD)
    write_csv(tmp_path / "set" / "p.csv", rows)
    with pytest.raises(DataError, match=expected) as caught:
        read_archive(config("npz", "set/a.npz", patients="p.csv"), tmp_path, name="mine")
    assert str(caught.value).startswith("set/p.csv")


def test_a_label_outside_of_the_declared_classes_names_file_row_value_and_expectation(tmp_path: Path) -> None:
    _split(tmp_path)
    with pytest.raises(
        DataError, match=r"set/a.npz train_labels row 1: label '1'; expected one of only, or 0 to 0"
    ):
        read_archive(config("npz", "set/a.npz", classes=("only",)), tmp_path, name="mine")


def test_a_plain_archive_has_no_official_split(tmp_path: Path) -> None:
    _save(tmp_path, **_GOOD)
    with pytest.raises(ConfigError, match=r"data.split = 'official': expected hash"):
        read_archive(config("npz", "set/a.npz", split="official"), tmp_path, name="mine")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_truncation_and_bit_flips_give_data_errors_or_a_set(tmp_path: Path, draw: st.DataObject) -> None:
    path = _save(tmp_path, **_GOOD)
    write_csv(tmp_path / "set" / "p.csv", [["index", "patient"], [0, "a"], [1, "b"], [2, "c"]])
    victim = draw.draw(st.sampled_from([path, tmp_path / "set" / "p.csv"]))
    body = bytearray(victim.read_bytes())
    position = draw.draw(st.integers(0, len(body) - 1))
    if draw.draw(st.booleans()):
        del body[position:]
    else:
        body[position] ^= 1 << draw.draw(st.integers(0, 7))
    victim.write_bytes(bytes(body))
    with contextlib.suppress(DataError):
        assert (
            len(read_archive(config("npz", "set/a.npz", patients="p.csv"), tmp_path, name="mine").data.images)
            == 3
        )
