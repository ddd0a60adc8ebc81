"""A bare file reads as the file that it was made of, and has nothing else of it; on all images of pydicom."""

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from medgan_core.data.dicom.bare import NUMBERS, TABLES
from medgan_core.data.dicom.header import WANTED
from medgan_core.data.dicom.sealing import sealed, unsealed
from medgan_core.data.dicom.sources import Sealed
from medgan_core.data.dicom.work import Answer, Settings, Task, answer
from tests.medgan_core.data.dicom.making import FILES, pixels, sample, saved
from tests.medgan_core.release.anonymize.planting import plant

NAMES = ("2.25.1", "2.25.2")
TERMS = {"PhotometricInterpretation", "VOILUTFunction", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"}
ALLOWED = {
    *NUMBERS,
    *TABLES,
    *TERMS,
    "LUTDescriptor",
    "LUTData",
    "HighBit",
    "PlanarConfiguration",
    "PixelData",
}
ALLOWED |= {
    *WANTED, "FrameVOILUTSequence", "PixelValueTransformationSequence", "PixelMeasuresSequence",
    "PlanePositionSequence", "PlaneOrientationSequence",
}  # fmt: skip
ALLOWED -= {"PatientID", "IssuerOfPatientID", "Modality", "ImageType", "SyntheticData", "BurnedInAnnotation"}
KEY = bytes(range(32))


def images() -> list[Path]:
    """Bundled files of which a frame or more are read."""
    small = [path for path in sorted(FILES.glob("*.dcm")) if path.stat().st_size < 1 << 21]
    return [path for path in small if answer(Task(path, header=True), Settings(frames="all")).header]


def stripped(source: Path | bytes) -> tuple[Answer, tuple[int, ...]]:
    header = answer(Task(source, header=True), Settings(frames="all")).header
    assert header is not None
    frames = tuple(frame.frame for frame in header.frames)
    return answer(Task(source, frames=frames, bare=NAMES), Settings()), frames


@pytest.mark.parametrize("path", images(), ids=lambda path: path.name)
def test_it_reads_as_the_file_does_and_holds_numbers_alone(path: Path) -> None:
    made, frames = stripped(path)
    if made.refusal is not None:
        assert answer(Task(path, pixels=True, frames=frames), Settings()).refusal is not None
        return
    for window in ("lung", "file"):
        asked = {"header": True, "pixels": True, "digest": True, "frames": frames}
        settings = Settings(window, "all")
        before = answer(Task(path, **asked), settings)  # type: ignore[arg-type]
        after = answer(Task(made.dataset, **asked), settings)  # type: ignore[arg-type]
        assert (after.refusal, after.detail) == (before.refusal, before.detail)
        assert before.header is None or after.header is None or after.header.frames == before.header.frames
        for one, other in zip(before.images, after.images, strict=True):
            assert np.array_equal(one, other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = pydicom.dcmread(io.BytesIO(made.dataset))
    assert {element.keyword for element in dataset.iterall()} <= ALLOWED
    assert (dataset.SeriesInstanceUID, dataset.SOPInstanceUID) == NAMES
    assert made.dataset[:128] == bytes(128)


def test_what_names_a_patient_is_gone(tmp_path: Path) -> None:
    words = [f"CANARY{number}" for number in range(8)]
    dataset = sample("CT_small.dcm", PatientName=words[0], PatientID=words[1], ImageComments=words[2])
    dataset.add_new(0x00091001, "LO", words[3])
    inner = Dataset()
    inner.PatientName = words[4]
    dataset.ReferencedStudySequence = [inner]
    dataset.StudyDate, dataset.InstanceNumber = "19990909", 5
    dataset.preamble = words[5].encode().ljust(128, b"\0")
    dataset.file_meta.PrivateInformation = words[6].encode() + b"\0"
    dataset.file_meta.PrivateInformationCreatorUID = UID("1.2.3")
    dataset.PixelData += words[7].encode()
    content = saved(dataset)
    assert all(word.encode() in content for word in words)
    made, _ = stripped(content)
    plain = pydicom.dcmread(io.BytesIO(made.dataset))
    open_text = made.dataset + plain.to_json().encode() + plain.PixelData
    assert not [word for word in (*words, "19990909") if word.encode() in open_text]
    assert plain.InstanceNumber == 5
    assert np.array_equal(pixels(made.dataset), pixels(FILES / "CT_small.dcm"))


@pytest.mark.parametrize("keyword", TABLES)
def test_a_table_of_levels_is_kept_as_long_as_it_says_it_is(keyword: str) -> None:
    dataset = sample("MR_small.dcm", PixelRepresentation=0)
    stored = dataset.pixel_array.astype(np.uint16) % 256
    dataset.PixelData = stored.tobytes()
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 16])
    levels = (np.arange(256, dtype="<u2")[::-1] * 200).tobytes()
    item.add_new("LUTData", "OW", levels + b"LOVELACE^ADA")
    setattr(dataset, keyword, [item])
    made, _ = stripped(saved(dataset))
    again = pydicom.dcmread(io.BytesIO(made.dataset))
    assert again[keyword].value[0].LUTData == levels
    item.LUTData = levels
    assert np.array_equal(pixels(made.dataset), pixels(saved(dataset)))


def test_no_canary_of_any_file_is_left() -> None:
    searched = 0
    for number, path in enumerate(images()):
        planted = plant(path, number)
        made = stripped(planted.content)[0].dataset if planted else b""
        if planted and made:
            plain = pydicom.dcmread(io.BytesIO(made))
            plain.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            open_bytes = made + saved(plain)
            assert not [canary for canary in planted.canaries if canary.encode() in open_bytes]
            searched += 1
    assert searched > 30


def test_a_sealed_one_is_read_with_its_key_alone(tmp_path: Path) -> None:
    made, _ = stripped(FILES / "CT_small.dcm")
    (tmp_path / "x").write_bytes(sealed(made.dataset, KEY))
    (tmp_path / "y").write_bytes(sealed(made.dataset, None))

    def read(name: str, key: bytes | None) -> Answer:
        task = Task(Sealed(tmp_path / name, key), header=True, pixels=True, frames=(0,))
        assert Task.of_message(*task.as_message()) == task
        assert "key" not in repr(task)
        return answer(task, Settings())

    for name, key in (("x", KEY), ("y", None)):
        assert np.array_equal(read(name, key).images[0], pixels(FILES / "CT_small.dcm"))
    for name, key in (("x", None), ("y", KEY), ("x", bytes(32)), ("missing", KEY)):
        assert read(name, key).refusal == "unreadable"


@given(st.binary(min_size=1, max_size=300), st.integers(0, 10_000))
def test_sealed_bytes_come_back_unless_one_of_them_was_changed(body: bytes, place: int) -> None:
    content = sealed(body, KEY)
    assert unsealed(content, KEY) == body
    assert unsealed(sealed(body, None), None) == body
    place %= len(content)
    changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    for wrong in (changed, content[:place], b""):
        with pytest.raises(ValueError):
            unsealed(wrong, KEY)


def test_many_chunks_are_bound_to_their_order() -> None:
    body = np.random.default_rng(0).bytes(3 << 20)
    content = sealed(body, KEY)
    assert unsealed(content, KEY) == body
    start, chunk = content.index(b"\n") + 1, (1 << 20) + 16
    first, second = content[start : start + chunk], content[start + chunk : start + 2 * chunk]
    for wrong in (content[: start + chunk], content[:start] + second + first + content[start + 2 * chunk :]):
        with pytest.raises(ValueError):
            unsealed(wrong, KEY)
