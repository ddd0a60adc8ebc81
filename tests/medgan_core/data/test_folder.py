import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medgan_core.data.archives import read_archive
from medgan_core.data.folder import decode_image
from medgan_core.errors import ConfigError, DataError
from tests.medgan_core.data.making import config, image_bytes, write_csv, write_image, write_zip


def test_class_folders_and_a_zip_for_each_class_are_read_alike(tmp_path: Path) -> None:
    for i, label in enumerate(("b", "a", "a")):
        write_image(tmp_path / "loose" / label / f"{i}.png", seed=i)
    (tmp_path / "loose" / "SOURCES.md").touch()
    (tmp_path / "zips").mkdir()
    write_zip(tmp_path / "zips" / "a.zip", {f"a/{i}.png": image_bytes(seed=i) for i in (1, 2)})
    write_zip(tmp_path / "zips" / "b.zip", {"0.png": image_bytes(seed=0), "__MACOSX/._0.png": b""})
    write_zip(tmp_path / "one.zip", {f"{'baa'[i]}/{i}.png": image_bytes(seed=i) for i in range(3)})
    loose, zips, one = (
        read_archive(config("folder", path), tmp_path, name="x").data for path in ("loose", "zips", "one.zip")
    )
    assert loose.card.classes == zips.card.classes == ("a", "b")
    assert loose.patients == zips.patients == one.patients == ("a/1.png", "a/2.png", "b/0.png")
    assert torch.equal(loose.images, zips.images)
    assert torch.equal(loose.images, one.images)
    assert loose.labels.tolist() == [0, 0, 1]
    assert loose.card.unit == "image"


def test_a_manifest_names_patients_labels_and_sites(tmp_path: Path) -> None:
    for i in range(4):
        write_image(tmp_path / "set" / "deep" / f"{i}.jpeg", side=30 + i, seed=i)
    header = ["file", "patient", "label", "site", "split"]
    rows = [["deep/0.jpeg", "p", "1", "north", "test"], ["deep/1.jpeg", "p", "0", "north", "train"]]
    rows += [["deep/2.jpeg", "", "1", "south", "train"], ["deep/3.jpeg", "q", "1", "south", "train"]]
    write_csv(tmp_path / "set" / "manifest.csv", [header, *rows])
    data = config("folder", "set", image_size=32, classes=("sane", "ill"), split="official")
    archive = read_archive(data, tmp_path, name="x")
    assert archive.data.patients == ("p", "1/deep/2.jpeg", "q")
    assert archive.data.owner.tolist() == [0, 0, 1, 2]
    assert archive.site_of == ("north", "south", "south")
    assert archive.held_out == (True, False, False)
    assert archive.data.card.unit == "patient"
    assert archive.data.images.shape == (4, 1, 32, 32)


def test_images_in_zips_with_an_index_and_labels_in_another_table(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_zip(
        tmp_path / "set" / "images.zip", {f"{i}.jpeg": image_bytes(64, i, form="JPEG") for i in range(3)}
    )
    write_csv(
        tmp_path / "set" / "index.csv", [["file", "key"], *[[f"{i}.jpeg", f"p{i % 2}"] for i in range(3)]]
    )
    write_csv(
        tmp_path / "set" / "truth.csv",
        [["file", "finding"], *[[f"{i}.jpeg", "ab"[i % 2]] for i in (2, 1, 0)]],
    )
    data = config("folder", "set", patients="index.csv:key", labels="truth.csv:finding")
    archive = read_archive(data, tmp_path, name="x")
    assert archive.data.labels.tolist() == [0, 1, 0]
    assert archive.data.patients == ("p0", "p1")
    write_csv(tmp_path / "set" / "truth.csv", [["file", "finding"], ["0.jpeg", "a"]])
    with pytest.raises(DataError, match=r"index.csv row 3: file 1.jpeg has no label in set/truth.csv"):
        read_archive(data, tmp_path, name="x")


def test_a_manifest_without_labels_takes_the_class_folders(tmp_path: Path) -> None:
    for label in ("b", "a"):
        write_image(tmp_path / "set" / label / "0.png")
    write_csv(tmp_path / "set" / "manifest.csv", [["file", "patient"], ["b/0.png", "p"], ["a/0.png", "p"]])
    archive = read_archive(config("folder", "set"), tmp_path, name="x")
    assert archive.data.labels.tolist() == [1, 0]
    write_csv(tmp_path / "set" / "manifest.csv", [["file", "label"], ["b/0.png", "0"], ["a/0.png", "1"]])
    plain = read_archive(config("folder", "set"), tmp_path, name="x")
    assert plain.data.card.unit == "image"
    assert plain.data.patients == ("0/b/0.png", "1/a/0.png")
    with pytest.raises(ConfigError, match="no official split"):
        read_archive(config("folder", "set", split="official"), tmp_path, name="x")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([["file", "label"], ["../secret.png", "0"]], "row 2: file '../secret.png' leaves the folder"),
        ([["file", "label"], ["/etc/passwd", "0"]], "row 2: file '/etc/passwd' leaves the folder"),
        ([["file", "label"], ["..\\secret.png", "0"]], "leaves the folder"),
        ([["file", "label"], ["link.png", "0"]], "is a link that leaves the folder"),
        (
            [["file", "label"], ["0.png", "0"], ["0.png", "1"]],
            "row 3: file 0.png is in set/manifest.csv row 2",
        ),
        ([["file", "label"], ["9.png", "0"]], "row 2: file 9.png is neither in the folder nor in its zips"),
        ([["file", "label"], ["twice.png", "0"]], "is in more than one zip"),
        ([["file", "label"], ["x" * 400, "0"]], "row 2: x+ cannot be read"),
        ([["file", "label"], ["small.png", "0"]], "row 2: small.png is of 7×7 pixels"),
        ([["file", "label"], ["bad.png", "0"]], "row 2: bad.png cannot be decoded"),
        ([["file", "label"], ["cut.png", "0"]], "row 2: cut.png cannot be decoded"),
        ([["file", "label"], ["0.png", ""]], "row 2: label is blank"),
        ([["file", "label", "site"], ["0.png", "0", ""]], "row 2: site ''; expected letters"),
        ([["file", "label", "site"], ["0.png", "0", "../x"]], "row 2: site '../x'"),
        (
            [["file", "label", "patient", "site"], ["0.png", 0, "p", "n"], ["1.png", 0, "p", "s"]],
            "row 3: this patient is at site n",
        ),
        ([["file", "patient"], ["0.png", "p"]], "has no column label"),
        ([["name", "label"], ["0.png", "0"]], "has no column file"),
    ],
)
def test_a_bad_manifest_is_refused_by_file_and_row(
    tmp_path: Path, rows: list[list[object]], expected: str
) -> None:
    folder = tmp_path / "set"
    for i in range(2):
        write_image(folder / f"{i}.png", seed=i)
    write_image(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    write_image(folder / "small.png", side=7)
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "cut.png").write_bytes(image_bytes()[:200])
    for name in ("a.zip", "b.zip"):
        write_zip(folder / name, {"twice.png": image_bytes()})
    write_csv(folder / "manifest.csv", rows)
    with pytest.raises(DataError, match=expected) as caught:
        read_archive(config("folder", "set"), tmp_path, name="x")
    assert str(caught.value).startswith("set/manifest.csv")


def test_a_folder_without_classes_and_an_archive_that_is_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="set holds no images"):
        read_archive(config("folder", "set"), tmp_path, name="x")
    write_image(tmp_path / "set" / "0.png")
    with pytest.raises(DataError, match=r"set/0.png is in no class folder"):
        read_archive(config("folder", "set"), tmp_path, name="x")
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"bad.zip cannot be read"):
        read_archive(config("folder", "bad.zip"), tmp_path, name="x")
    write_image(tmp_path / "two" / "a" / "0.png")
    write_zip(tmp_path / "two" / "a.zip", {"a/0.png": image_bytes()})
    with pytest.raises(DataError, match=r"two images are called a/0.png"):
        read_archive(config("folder", "two"), tmp_path, name="x")


@pytest.mark.parametrize("parts", [("train",), ("Train", "val", "TEST")])
def test_the_parts_of_a_split_are_no_classes_unless_the_study_says_so(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    names = [f"{part}/{label}/0.png" for part in parts for label in ("ill", "sane")]
    for name in names:
        write_image(tmp_path / "set" / name)
    write_zip(tmp_path / "one.zip", dict.fromkeys(names, image_bytes()))
    refused = rf": its first folders are {', '.join(sorted(parts))}, parts of a split .* manifest.csv"
    for path in ("set", "one.zip"):
        with pytest.raises(DataError, match=path + refused):
            read_archive(config("folder", path), tmp_path, name="x")
        with pytest.raises(DataError, match=path + refused):
            read_archive(config("folder", path, classes=("ill", "sane")), tmp_path, name="x")
        declared = read_archive(config("folder", path, classes=parts), tmp_path, name="x").data
        assert len(declared.images) == len(names)
    rows = [[name, name.split("/")[1]] for name in names]
    write_csv(tmp_path / "set" / "manifest.csv", [["file", "label"], *rows])
    assert read_archive(config("folder", "set"), tmp_path, name="x").data.card.classes == ("ill", "sane")
    write_csv(tmp_path / "set" / "manifest.csv", [["file"], *([name] for name in names)])
    with pytest.raises(DataError, match="set/manifest.csv" + refused):
        read_archive(config("folder", "set"), tmp_path, name="x")


def test_folders_that_are_called_like_parts_may_be_classes(tmp_path: Path) -> None:
    for name in ("test/0.png", "train/0.png"):
        write_image(tmp_path / "flat" / name)
        write_image(tmp_path / "more" / name)
    write_image(tmp_path / "more" / "other" / "deep" / "0.png")
    for path, classes in (("flat", ("test", "train")), ("more", ("other", "test", "train"))):
        assert read_archive(config("folder", path), tmp_path, name="x").data.card.classes == classes


def _encoded(array: np.ndarray, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form)
    return stream.getvalue()


def test_sixteen_bits_are_scaled_and_odd_pictures_refused() -> None:
    deep = np.full((10, 10), 65535, dtype=np.uint16)
    deep[0] = 32768
    for channels, shape in ((1, (10, 10)), (3, (10, 10, 3))):
        pixels = decode_image(_encoded(deep, "PNG"), config("folder", "x", channels=channels))
        assert pixels.shape == shape
        assert pixels[1].min() == 255
        assert pixels[0].max() == 128
    for value in (-1, 65536):
        with pytest.raises(DataError, match="has pixels of more than 16 bits; expected 8 or 16"):
            decode_image(_encoded(np.full((9, 9), value, np.int32), "TIFF"), config("folder", "x"))
    whole = decode_image(_encoded(np.full((9, 9), 65535, np.int32), "TIFF"), config("folder", "x"))
    assert whole.min() == 255
    with pytest.raises(DataError, match="floating-point"):
        decode_image(_encoded(np.ones((9, 9), np.float32), "TIFF"), config("folder", "x"))
    stream = io.BytesIO()
    frames = [Image.new("L", (9, 9), value) for value in (0, 255)]
    frames[0].save(stream, "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="more than one frame"):
        decode_image(stream.getvalue(), config("folder", "x"))
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_image(_encoded(np.zeros((9, 9), np.uint8), "GIF"), config("folder", "x"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_truncation_and_bit_flips_give_data_errors_or_a_set(tmp_path: Path, draw: st.DataObject) -> None:
    (tmp_path / "set").mkdir(exist_ok=True)
    form = draw.draw(st.sampled_from(["PNG", "JPEG"]))
    files = {"a.zip": {"0.png": image_bytes(form=form), "1.png": image_bytes(seed=1, form=form)}}
    path = write_zip(tmp_path / "set" / "a.zip", files["a.zip"])
    manifest = write_csv(
        tmp_path / "set" / "manifest.csv", [["file", "label"], ["0.png", "0"], ["1.png", "1"]]
    )
    victim = draw.draw(st.sampled_from([path, manifest]))
    body = bytearray(victim.read_bytes())
    position = draw.draw(st.integers(0, len(body) - 1))
    if draw.draw(st.booleans()):
        del body[position:]
    else:
        body[position] ^= 1 << draw.draw(st.integers(0, 7))
    victim.write_bytes(bytes(body))
    with contextlib.suppress(DataError):
        assert len(read_archive(config("folder", "set"), tmp_path, name="x").data.images) <= 2
