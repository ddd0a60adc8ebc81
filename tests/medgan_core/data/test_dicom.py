from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, MRImageStorage, SecondaryCaptureImageStorage

from medgan_core.config import PhantomsConfig
from medgan_core.data import dicom
from medgan_core.data.archives import read_archive
from medgan_core.data.dicom import read_dicom
from medgan_core.errors import DataError
from medgan_core.seeds import Seeds
from simulations.phantoms import make_phantoms
from tests.medgan_core.data.making import config, write_csv

DATA = config("dicom", "x", image_size=32)
CT, INVERTED, DX = 1, 2, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dicom")
    make_phantoms(root / "set", PhantomsConfig(patients=2, max_images=1, pixels=32), 3, Seeds(0))
    return root


@pytest.fixture
def load(folder: Path) -> Callable[[int], Dataset]:
    return lambda site: pydicom.dcmread(folder / f"set/site-{site}/phantom-{site}-0001/1.dcm")


def _bytes(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def _with_values(dataset: Dataset, values: list[int], **attributes: Any) -> bytes:
    """Rows of one value each, 8 pixels wide."""
    stored = np.repeat(np.array(values, dtype="<u2")[:, None], 8, axis=1)
    dataset.Rows, dataset.Columns, dataset.PixelData = *stored.shape, stored.tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return _bytes(dataset)


def _rows(raw: bytes) -> list[float]:
    pixels = read_dicom(raw, DATA).pixels
    assert pixels.dtype == np.float32
    return [round(float(v), 3) for v in pixels[0, :, 0]]


STEPS = [0, 100, 200, 300, 400, 500, 600, 700]


def test_ct_is_scaled_by_the_public_lung_window(load: Callable[[int], Dataset]) -> None:
    raw = _with_values(
        load(CT), [0, 1000, 2000, 3000, 4000, 0, 0, 0], RescaleSlope=1, RescaleIntercept=-1350, WindowWidth=5
    )
    assert _rows(raw)[:4] == [0.0, 0.667, 1.0, 1.0]


def test_monochrome1_is_inverted(load: Callable[[int], Dataset]) -> None:
    window = {"WindowCenter": 350.5, "WindowWidth": 701}
    assert _rows(_with_values(load(INVERTED), STEPS, **window)) == [round(1 - v / 700, 3) for v in STEPS]
    assert _rows(_with_values(load(DX), STEPS, **window)) == [round(v / 700, 3) for v in STEPS]


def test_every_window_function_and_none(load: Callable[[int], Dataset]) -> None:
    exact = _with_values(
        load(DX), STEPS, WindowCenter=[350, 1], WindowWidth=[700, 1], VOILUTFunction="LINEAR_EXACT"
    )
    assert _rows(exact) == [round(v / 700, 3) for v in STEPS]
    sigmoid = _rows(
        _with_values(load(DX), STEPS, WindowCenter=300, WindowWidth=400, VOILUTFunction="SIGMOID")
    )
    assert sigmoid[3] == 0.5
    assert sigmoid == sorted(sigmoid)
    full = _rows(_with_values(load(DX), STEPS, WindowCenter=None, WindowWidth=None, RescaleSlope=2))
    assert full == [round(v / 1023, 3) for v in STEPS]
    no_slope = _rows(_with_values(load(DX), STEPS, WindowCenter=None, WindowWidth=None, RescaleSlope=None))
    assert no_slope == full


def test_a_voi_table_is_applied(load: Callable[[int], Dataset]) -> None:
    table = Dataset()
    table.LUTDescriptor = [8, 0, 8]
    table.LUTData = np.array([0] * 4 + [255] * 4, dtype="<u2").tobytes()
    raw = _with_values(load(DX), [0, 1, 2, 3, 4, 5, 6, 7], VOILUTSequence=[table])
    assert _rows(raw) == [0.0] * 4 + [1.0] * 4


def test_mr_without_a_window_uses_the_range_of_its_own_image(load: Callable[[int], Dataset]) -> None:
    raw = _with_values(load(DX), STEPS, WindowCenter=None, WindowWidth=None, SOPClassUID=MRImageStorage)
    assert _rows(raw)[0] == 0
    assert _rows(raw)[-1] == 1
    assert _rows(raw)[3] == round(3 / 7, 3)


def test_secondary_capture_and_colour_channels(load: Callable[[int], Dataset]) -> None:
    dataset = load(DX)
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    image = read_dicom(_bytes(dataset), config("dicom", "x", channels=3))
    assert image.pixels.shape == (3, 40, 32)
    assert image.patient == "phantom-3-0001"
    assert 0 <= image.pixels.min() < image.pixels.max() <= 1


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (
            {"SOPClassUID": UID("1.2.840.10008.5.1.4.1.1.88.11")},
            "is of SOP class .* expected one of CT, MR, CR",
        ),
        ({"SyntheticData": "YES"}, "SyntheticData YES"),
        ({"PatientID": ""}, "no PatientID"),
        ({"PatientID": None}, "no PatientID"),
        ({"NumberOfFrames": 2}, "has 2 frames"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "is RGB; expected MONOCHROME1"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "is PALETTE COLOR"),
        ({"Rows": 4}, "expected at least 8×8"),
        ({"Rows": 4000}, "is damaged"),
        ({"BitsStored": 4, "HighBit": 3}, "outside of BitsStored = 4"),
        ({"RescaleSlope": None}, "is CT without RescaleSlope"),
        ({"RescaleIntercept": None}, "is CT without RescaleSlope"),
    ],
)
def test_what_may_not_be_trained_on_is_refused(
    load: Callable[[int], Dataset], attributes: dict[str, Any], expected: str
) -> None:
    dataset = load(CT)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    with pytest.raises(DataError, match=rf"^scan.dcm .*{expected}"):
        read_dicom(_bytes(dataset), DATA, name="scan.dcm")


def test_a_file_without_pixels_or_cut_anywhere_is_refused(
    load: Callable[[int], Dataset], tmp_path: Path
) -> None:
    whole = _bytes(load(DX))
    for length in [0, 10, 131, 140, *range(200, len(whole) - 1, 397), len(whole) - 1]:
        with pytest.raises(DataError, match=r"^DICOM file "):
            read_dicom(whole[:length], DATA)
    dataset = load(DX)
    del dataset.PixelData
    dataset.save_as(tmp_path / "empty.dcm")
    with pytest.raises(DataError, match=r"^empty.dcm has no PixelData"):
        read_dicom(tmp_path / "empty.dcm", DATA)
    with pytest.raises(DataError, match=r"^gone.dcm is damaged or no DICOM file \(FileNotFoundError\)"):
        read_dicom(tmp_path / "gone.dcm", DATA)


def test_a_compression_without_a_decoder_is_named(
    load: Callable[[int], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(DX)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = encapsulate([b"no codestream"])
    monkeypatch.setattr(dicom, "get_decoder", lambda syntax: SimpleNamespace(is_available=False))
    with pytest.raises(DataError, match=r"is compressed as JPEG 2000 .* no decoder is installed"):
        read_dicom(_bytes(dataset), DATA)


def test_the_manifest_wins_over_the_patient_of_the_file(folder: Path) -> None:
    files = [f"site-{s}/phantom-{s}-0001/1.dcm" for s in (1, 2, 3)]
    write_csv(folder / "set" / "own.csv", [["file", "label"], *[[f, i % 2] for i, f in enumerate(files)]])
    by_file = read_archive(config("dicom", "set", labels="own.csv", image_size=32), folder, name="x")
    assert by_file.data.patients == ("phantom-1-0001", "phantom-2-0001", "phantom-3-0001")
    assert by_file.data.card.unit == "patient"
    rows = [["file", "patient", "label"], *[[f, "" if i else "someone", "0"] for i, f in enumerate(files)]]
    write_csv(folder / "set" / "own.csv", rows)
    by_row = read_archive(config("dicom", "set", patients="own.csv", image_size=32), folder, name="x")
    assert by_row.data.patients == ("someone", "phantom-2-0001", "phantom-3-0001")


def test_a_damaged_file_is_named_with_its_row(folder: Path) -> None:
    (folder / "set" / "bad.dcm").write_bytes(b"no DICOM")
    write_csv(folder / "set" / "bad.csv", [["file", "label"], ["bad.dcm", 0]])
    with pytest.raises(DataError, match=r"^set/bad.csv row 2: bad.dcm is"):
        read_archive(config("dicom", "set", labels="bad.csv"), folder, name="x")
    (folder / "none").mkdir()
    with pytest.raises(DataError, match=r"^none/manifest.csv is missing"):
        read_archive(config("dicom", "none"), folder, name="x")
