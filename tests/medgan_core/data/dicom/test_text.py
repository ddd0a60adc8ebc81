from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydicom import Dataset

from medgan_core.data.dicom import text
from medgan_core.data.dicom.reasons import QuarantineError, Refusal
from medgan_core.data.dicom.terms import Terms
from medgan_core.data.dicom.text import _WORD, can_look, find_text, has_text
from tests.medgan_core.data.dicom.making import keyed, read, sample, saved, slices

CHECKED = Terms(pseudonym=keyed, text_check=True)
needs_tesseract = pytest.mark.skipif(not can_look(), reason="tesseract is not installed")


def _written(dataset: Dataset, words: Sequence[str], level: int) -> Dataset:
    """The file with words burned in, at native resolution."""
    stored = np.kron(dataset.pixel_array, np.ones((4, 4), dtype=dataset.pixel_array.dtype))
    page = Image.new("1", (stored.shape[1], stored.shape[0]))
    for i, word in enumerate(words):
        ImageDraw.Draw(page).text((20, 20 + 40 * i), word, fill=1, font_size=28)
    stored = np.where(np.array(page), level, stored).astype(stored.dtype)
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelData = stored.tobytes()
    return dataset


@needs_tesseract
@pytest.mark.parametrize("level", [4000, 0])
def test_names_are_found_in_both_polarities_and_anatomy_is_none(level: int) -> None:
    written = _written(sample("CT_small.dcm"), ["DOE JOHN", "1950-01-17"], level)
    assert has_text(written.pixel_array)
    plain = _written(sample("CT_small.dcm"), [], level)
    assert not has_text(plain.pixel_array)


@needs_tesseract
def test_a_box_lies_around_each_word_and_umlauts_are_letters() -> None:
    written = _written(sample("CT_small.dcm"), ["DOE JOHN", "MÜLLER"], 4000)
    boxes = list(find_text(written.pixel_array))
    assert len(boxes) >= 2
    changed = np.argwhere(written.pixel_array == 4000)
    for box in boxes:
        inside = (changed[:, 0] >= box.top) & (changed[:, 0] < box.bottom)
        inside &= (changed[:, 1] >= box.left) & (changed[:, 1] < box.right)
        assert inside.any()
        assert box.bottom - box.top < 60
    assert _WORD.search("Öz1")
    assert not _WORD.search("___ a. 12")


@needs_tesseract
def test_text_in_one_slice_refuses_the_series_and_no_other() -> None:
    files = slices(3) + slices(1, SeriesInstanceUID="1.2.3.4")
    files[1] = _written(files[1], ["DOE JOHN", "ID 4711"], 4000)
    for i, dataset in enumerate(files):
        dataset.SOPInstanceUID = f"1.2.{i}"
    raws = [saved(dataset) for dataset in files]
    found, quarantine = read([(str(i), raw) for i, raw in enumerate([raws[1], raws[0], *raws[2:]])], CHECKED)
    assert quarantine == {"0": "text", "1": "text", "2": "text"}
    assert len(found.images) == 1
    assert found.report.text_checked


def test_without_the_program_nothing_is_taken_on_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "can_look", lambda: False)
    with pytest.raises(QuarantineError) as refused:
        has_text(np.zeros((64, 64), dtype=np.uint8))
    assert refused.value.reason is Refusal.TEXT_UNCHECKED
