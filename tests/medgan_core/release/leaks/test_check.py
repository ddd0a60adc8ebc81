import bz2
import gzip
import io
import logging
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medgan_core.errors import InputError
from medgan_core.release.leaks.check import leak_check, masked
from medgan_core.release.leaks.search import Search
from medgan_core.release.leaks.values import Kind, Value, sorted_out, values_of, values_of_dataset
from tests.medgan_core.release.anonymize.planting import BUNDLED, CANARIES, Planted, plant


@pytest.fixture(name="planted", scope="module")
def _planted() -> Planted:
    made = plant(BUNDLED / "CT_small.dcm", 7)
    assert made is not None
    return made


@pytest.fixture(name="real")
def _real(planted: Planted, tmp_path: Path) -> Path:
    folder = tmp_path / "real" / "Lindqvist^Bo"
    folder.mkdir(parents=True)
    (folder / "a.dcm").write_bytes(planted.content)
    return folder.parent


def check_one(real: Path, name: str, content: bytes) -> int:
    """How many values are found in a folder of this one file."""
    folder = real.parent / "new"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    found = leak_check(folder, real, pixels_kept=True)
    (folder / name).unlink()
    return sum(found.found.values())


def test_every_canary_is_searched_for(planted: Planted) -> None:
    wanted, _ = sorted_out(values_of("a.dcm", planted.content))
    search = Search(wanted)
    missed = [canary for canary in planted.canaries if not search.find(b"\0log: " + canary.encode() + b"\n")]
    assert len(planted.canaries) == CANARIES
    assert missed == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_other_encodings_cases_and_wrappings(planted: Planted, real: Path, encoding: str) -> None:
    name = planted.canaries[0]
    for text in (name, name.upper(), name.lower()):
        assert check_one(real, "run.log", text.encode(encoding)) >= 1
    raw = name.encode()
    assert check_one(real, "x.hex", b"cafe" + raw.hex().encode()) >= 1
    for before in (b"", b"a", b"ab"):
        import base64

        assert check_one(real, "x.b64", base64.b64encode(before + raw + b" and so on")) >= 1


def test_packed_files_and_file_names(planted: Planted, real: Path) -> None:
    raw = planted.canaries[3].encode()
    assert check_one(real, "x.gz", gzip.compress(raw)) >= 1
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("deep/inside.txt", raw)
    assert check_one(real, "x.zip", stream.getvalue()) >= 1
    assert check_one(real, f"{planted.canaries[3]}.dat", b"nothing") >= 1
    assert check_one(real, "Lindqvist.txt", b"nothing") >= 1


def test_archives_within_archives_and_those_that_stay_shut(planted: Planted, real: Path) -> None:
    raw = planted.canaries[3].encode() * 3
    assert check_one(real, "x.bz2", bz2.compress(gzip.compress(lzma.compress(raw)))) >= 1
    folder = real.parent / "shut"
    folder.mkdir()
    (folder / "x.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + b"\0" * 40)
    (folder / "y.gz").write_bytes(gzip.compress(raw)[:-9])
    leaks = leak_check(folder, real)
    assert not leaks.clean
    assert sum(leaks.unread.values()) == 2


def test_deflated_dicom_is_unpacked(planted: Planted, real: Path) -> None:
    dataset = pydicom.dcmread(io.BytesIO(planted.content))
    clean = pydicom.Dataset()
    clean.PatientName = dataset.PatientName
    clean.SOPClassUID, clean.SOPInstanceUID = dataset.SOPClassUID, pydicom.uid.UID("2.25.1")
    clean.file_meta = pydicom.dataset.FileMetaDataset()
    clean.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    stream = io.BytesIO()
    clean.save_as(stream, enforce_file_format=True)
    assert planted.canaries[0].encode() not in stream.getvalue()
    assert check_one(real, "deflated.dcm", stream.getvalue()) >= 1


def test_dates_are_known_as_people_write_them(real: Path, planted: Planted) -> None:
    (birth,) = {c for c in planted.canaries if c.isdigit()} & {
        str(pydicom.dcmread(io.BytesIO(planted.content)).PatientBirthDate)
    }
    year, month, day = birth[:4], birth[4:6], birth[6:]
    for text in (birth, f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{month}/{day}/{year}"):
        assert check_one(real, "notes.txt", f"born {text}!".encode()) >= 1
    assert check_one(real, "notes.txt", f"number 7{birth}1".encode()) == 0


def test_nothing_is_found_where_nothing_is(real: Path) -> None:
    random = np.random.default_rng(0)
    folder = real.parent / "clean"
    folder.mkdir()
    (folder / "noise.bin").write_bytes(random.bytes(3_000_000))
    (folder / "card.md").write_text("CHEST CT, AXIAL, synthetic; see Patient ID and Study Date. MONOCHROME2")
    leaks = leak_check(folder, real)
    assert leaks.clean, leaks.places
    assert sum(leaks.searched.values()) > CANARIES


def test_short_and_common_values_are_told_apart() -> None:
    values = [
        Value(Kind.NAME, "Li"),
        Value(Kind.IDENTIFIER, "1234"),
        Value(Kind.IDENTIFIER, "CHEST"),
        Value(Kind.TIME, "101112"),
        Value(Kind.UID, "1.2.840.10008.5.1.4.1.1.2"),
        Value(Kind.NAME, "Lindqvist"),
        Value(Kind.IDENTIFIER, "A-123456"),
        Value(Kind.DATE, "19700101"),
    ]
    wanted, common = sorted_out(values)
    assert [value.text for value in wanted] == ["Lindqvist", "A-123456", "19700101"]
    assert [value.text for value in common] == ["Li", "1234", "CHEST", "101112"]


def test_numbered_names_of_a_file_set_say_nothing_and_others_do() -> None:
    directory = pydicom.Dataset()
    directory.ReferencedFileID = ["PT000000", "SE000001", "LINDQVIST"]
    texts = [value.text for value in values_of_dataset(directory)]
    assert texts == ["LINDQVIST"]


def test_values_are_shown_masked(real: Path, planted: Planted) -> None:
    folder = real.parent / "new"
    folder.mkdir()
    (folder / "a.txt").write_text(" ".join(planted.canaries))
    leaks = leak_check(folder, real)
    assert len(leaks.places) >= CANARIES
    assert [canary for canary in planted.canaries if canary in "\n".join(leaks.places)] == []
    assert masked("Lindqvist") == "Li… (9 characters)"
    assert masked("Bo") == "… (2 characters)"


def test_pixels_that_were_copied_turned_or_compressed(real: Path) -> None:
    pixels = pydicom.dcmread(BUNDLED / "CT_small.dcm").pixel_array
    scaled = ((pixels - pixels.min()) / np.ptp(pixels) * 255).astype(np.uint8)
    folder = real.parent / "new"
    folder.mkdir()
    np.save(folder / "copy.npy", pixels)
    leaks = leak_check(folder, real)
    assert (leaks.copies, leaks.alike) == (1, 0)
    (folder / "copy.npy").unlink()
    picture = Image.fromarray(scaled)
    picture.rotate(90).save(folder / "turned.png")
    picture.resize((64, 64), Image.Resampling.BILINEAR).save(folder / "small.png")
    picture.point(lambda value: value * 0.7 + 20).save(folder / "dark.jpg", quality=60)
    np.savez(folder / "mirrored.npz", images=scaled[None, :, ::-1])
    leaks = leak_check(folder, real)
    assert (leaks.frames, leaks.copies, leaks.alike) == (4, 0, 4)


def test_other_images_are_not_alike(real: Path) -> None:
    folder = real.parent / "new"
    folder.mkdir()
    other = pydicom.dcmread(BUNDLED / "MR_small.dcm").pixel_array
    np.savez(folder / "x.npz", images=np.stack([other, np.zeros_like(other)]))
    leaks = leak_check(folder, real)
    assert (leaks.frames, leaks.copies, leaks.alike) == (2, 0, 0)


def test_the_day_on_which_a_synthetic_file_was_made_is_no_leak(real: Path, planted: Planted) -> None:
    day = str(pydicom.dcmread(io.BytesIO(planted.content)).StudyDate)
    made = pydicom.Dataset()
    made.SOPClassUID, made.SyntheticData = "1.2.840.10008.5.1.4.1.1.2", "YES"
    made.InstanceCreationDate = made.StudyDate = day
    stream = io.BytesIO()
    made.save_as(stream, implicit_vr=False, little_endian=True)
    assert check_one(real, "a", stream.getvalue()) == 0
    made.SyntheticData = "NO"
    stream = io.BytesIO()
    made.save_as(stream, implicit_vr=False, little_endian=True)
    assert check_one(real, "a", stream.getvalue()) == 1


def test_folders_that_cannot_be_compared(real: Path) -> None:
    empty = real.parent / "empty"
    empty.mkdir()
    for folder, against, says in (
        (real, real, "same folder"),
        (empty, real, "holds no file"),
        (real, empty, "no value to search for"),
        (real, real.parent / "none", "expected a folder"),
    ):
        with pytest.raises(InputError, match=says):
            leak_check(folder, against)


def test_libraries_are_silent(real: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = pydicom.dcmread(BUNDLED / "CT_small.dcm")
    dataset.add_new(0x00100020, "LO", "SECRETIVE-99")
    dataset.add_new(0x00080018, "UI", "1.2.3")
    stream = io.BytesIO()
    dataset.save_as(stream)
    content = stream.getvalue().replace(b"1.2.3", b"a.b.c")
    (real / "bad.dcm").write_bytes(content)
    assert check_one(real, "a.txt", b"SECRETIVE-99 a.b.c") >= 1
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == 0
