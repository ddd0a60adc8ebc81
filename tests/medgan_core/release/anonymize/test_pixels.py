import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from medgan_core.data.dicom.text import can_look, find_text
from medgan_core.errors import DataError
from medgan_core.release.anonymize import pixels as module
from medgan_core.release.anonymize.pixels import at_risk, decode, put_pixels, without_text
from tests.medgan_core.release.anonymize.planting import BUNDLED

needs_tesseract = pytest.mark.skipif(not can_look(), reason="Tesseract is not installed")


def with_text(text: str, bright: bool) -> NDArray[np.uint16]:
    shades = np.add.outer(np.arange(256), np.arange(256)) * 4 + 500
    picture = Image.fromarray(np.zeros((256, 256), np.uint8))
    ImageDraw.Draw(picture).text((30, 100), text, fill=255, font=ImageFont.load_default(24))
    letters = np.asarray(picture) > 127
    return np.where(letters, 4095 if bright else 0, shades).astype(np.uint16)


@needs_tesseract
@pytest.mark.parametrize("bright", [True, False])
def test_burned_in_text_is_found_and_blanked(bright: bool) -> None:
    frame = with_text("QUISLING 1971", bright)
    assert any(find_text(frame))
    blanked, boxes = without_text(frame[None])
    assert boxes >= 1
    assert list(find_text(blanked[0])) == []
    changed = np.argwhere(blanked[0] != frame)
    assert changed[:, 0].min() > 60
    assert changed[:, 0].max() < 180


@needs_tesseract
def test_an_image_without_text_stays_as_it_is() -> None:
    frame = pydicom.dcmread(BUNDLED / "MR_small.dcm").pixel_array
    same, boxes = without_text(frame[None])
    assert boxes == 0
    np.testing.assert_array_equal(same[0], frame)
    assert list(find_text(np.zeros((64, 64)))) == []
    assert list(find_text(np.zeros((8, 8)))) == []


def test_without_tesseract_an_image_at_risk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "can_look", lambda: False)
    with pytest.raises(DataError, match="Tesseract is not installed"):
        without_text(np.zeros((1, 32, 32)))


@pytest.mark.parametrize(
    ("values", "risky"),
    [
        ({"Modality": "CT"}, False),
        ({"Modality": "MR", "BurnedInAnnotation": "NO"}, False),
        ({"Modality": "US"}, True),
        ({}, True),
        ({"Modality": "CT", "BurnedInAnnotation": "YES"}, True),
        ({"Modality": "CT", "ConversionType": "WSD"}, True),
        ({"Modality": "CT", "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
    ],
)
def test_who_is_at_risk(values: dict[str, object], risky: bool) -> None:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    assert at_risk(dataset) == risky


def test_bits_above_those_stored_are_gone() -> None:
    """A retired overlay lies there, and so may anything else."""
    dataset = pydicom.dcmread(BUNDLED / "MR_small.dcm")
    image = dataset.pixel_array.astype(np.uint16) & 0x0FFF
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    dataset.PixelData = (image | 0xA000).tobytes()
    pixels = decode(dataset)
    np.testing.assert_array_equal(pixels[0], image)
    made = Dataset()
    made.BitsStored, made.PhotometricInterpretation = 12, "MONOCHROME2"
    put_pixels(made, pixels)
    assert made.PixelData == image.tobytes()
    assert (made.BitsStored, made.HighBit) == (12, 11)


@pytest.mark.parametrize(
    "name", ["SC_rgb_rle.dcm", "SC_ybr_full_422_uncompressed.dcm", "color-pl.dcm", "examples_palette.dcm"]
)
def test_colours_become_rgb(name: str) -> None:
    if not (BUNDLED / name).is_file():
        pytest.skip(f"{name} is not bundled with this pydicom")
    dataset = pydicom.dcmread(BUNDLED / name)
    pixels = decode(dataset)
    assert pixels.shape[-1] == 3
    made = Dataset()
    put_pixels(made, pixels)
    assert made.PhotometricInterpretation == "RGB"
    assert len(made.PixelData) == pixels.nbytes + pixels.nbytes % 2


def test_damaged_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be decoded"):
        decode(pydicom.dcmread(BUNDLED / "MR_truncated.dcm"))
