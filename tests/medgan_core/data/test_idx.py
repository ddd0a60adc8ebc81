import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from medgan_core.data.archives import read_archive
from medgan_core.errors import DataError
from tests.medgan_core.data.making import config, idx_bytes, pictures, write_idx, write_zip


@pytest.mark.parametrize("form", ["gz", "plain", "zip"])
def test_train_comes_before_t10k_and_t10k_may_be_held_out(tmp_path: Path, form: str) -> None:
    write_idx(tmp_path / "set", zipped=form != "plain")
    if form == "zip":
        write_zip(
            tmp_path / "set.zip", {f"raw/{p.name}": p.read_bytes() for p in (tmp_path / "set").iterdir()}
        )
    data = config("idx", "set.zip" if form == "zip" else "set", split="official")
    archive = read_archive(data, tmp_path, name="digits")
    assert archive.held_out == (False,) * 12 + (True,) * 5
    assert archive.data.patients[16] == "img16"
    assert archive.data.labels.tolist() == [*range(10), 0, 1, *range(5)]
    expected = torch.from_numpy(pictures(5, seed=1)).float() / 127.5 - 1
    assert torch.allclose(archive.data.images[12:, 0], expected, atol=1e-6)
    assert archive.data.card.unit == "image"


def _damage(folder: Path, kind: str) -> None:
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    bodies = {
        "truncated": (images, images.read_bytes()[:-3]),
        "header": (images, b"\x00\x00"),
        "magic": (images, b"\x00\x00\x08\x01" + images.read_bytes()[4:]),
        "empty": (images, struct.pack(">4I", 0x0803, 0, 28, 28)),
        "huge": (images, struct.pack(">4I", 0x0803, 2**31, 2**31, 28)),
        "small": (images, idx_bytes(pictures(12, 7))),
        "gzip": (images, gzip.compress(images.read_bytes())[:-9]),
        "labels": (labels, idx_bytes(np.zeros(11, dtype=np.uint8))),
        "sizes": (images, idx_bytes(pictures(12, 30))),
    }
    path, body = bodies[kind]
    path.write_bytes(body)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("truncated", "is truncated or too long"),
        ("header", "cannot be read"),
        ("magic", "magic number 2049, expected 2051"),
        ("empty", "not empty"),
        ("huge", "not empty"),
        ("small", "images of 7×7 pixels"),
        ("gzip", "cannot be read"),
        ("labels", "11 labels for the 12 images"),
        ("sizes", "differ in size"),
    ],
)
def test_damage_names_the_file(tmp_path: Path, kind: str, expected: str) -> None:
    write_idx(tmp_path / "set", zipped=False)
    _damage(tmp_path / "set", kind)
    with pytest.raises(DataError, match=expected) as caught:
        read_archive(config("idx", "set"), tmp_path, name="digits")
    assert str(caught.value).startswith("set")


def test_a_missing_file_and_a_label_out_of_range_are_named(tmp_path: Path) -> None:
    write_idx(tmp_path / "set", train=3)
    with pytest.raises(DataError, match=r"set/t10k-labels-idx1-ubyte.gz item 4: label '4'"):
        read_archive(config("idx", "set", classes=("a", "b", "c", "d")), tmp_path, name="digits")
    (tmp_path / "set" / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"set/t10k-images-idx3-ubyte.gz is missing"):
        read_archive(config("idx", "set"), tmp_path, name="digits")
    write_zip(tmp_path / "z.zip", {"a.txt": b""})
    with pytest.raises(DataError, match="holds no train-images-idx3-ubyte"):
        read_archive(config("idx", "z.zip"), tmp_path, name="digits")
    (tmp_path / "z.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"z.zip cannot be read"):
        read_archive(config("idx", "z.zip"), tmp_path, name="digits")
