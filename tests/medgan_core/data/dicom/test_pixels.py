from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import Dataset
from pydicom.uid import MRImageStorage

from medgan_core.config import PhantomsConfig
from medgan_core.data.dicom.pixels import shrink
from medgan_core.data.dicom.reasons import Refusal
from medgan_core.data.dicom.windows import CT_WINDOWS
from medgan_core.data.transforms import prepare
from medgan_core.seeds import Seeds
from simulations.phantoms import make_phantoms
from tests.medgan_core.data.dicom.making import FILES, asked, pixels, refused, sample, saved
from tests.medgan_core.data.making import config

CT, INVERTED, DX = 1, 2, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dicom")
    make_phantoms(root / "set", PhantomsConfig(patients=2, max_images=1, pixels=32), 3, Seeds(0))
    return root


@pytest.fixture
def load(folder: Path) -> Callable[[int], Dataset]:
    return lambda site: pydicom.dcmread(folder / f"set/site-{site}/phantom-{site}-0001/1.dcm")


def _with_values(dataset: Dataset, values: list[int], **attributes: Any) -> bytes:
    """Rows of one value each, 8 pixels wide."""
    stored = np.repeat(np.array(values, dtype="<u2")[:, None], 8, axis=1)
    dataset.Rows, dataset.Columns, dataset.PixelData = *stored.shape, stored.tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return saved(dataset)


def _rows(raw: bytes) -> list[float]:
    found = pixels(raw)
    assert found.dtype == np.float32
    return [round(float(v), 3) for v in found[:, 0]]


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


def test_every_named_window_maps_its_edges(load: Callable[[int], Dataset]) -> None:
    for name, (center, width) in CT_WINDOWS.items():
        levels = [center - width, center - width / 2, center, center + width / 2, center + width]
        values = [int(level) + 3000 for level in levels] + [0, 0, 0]
        bits = {"BitsStored": 16, "HighBit": 15}
        raw = _with_values(load(CT), values, RescaleSlope=1, RescaleIntercept=-3000, **bits)
        found = pixels(raw, window=name)[:5, 0]
        assert np.allclose(found, [0, 0, 0.5, 1, 1], atol=0.02), name


def test_a_ct_may_have_the_window_of_its_file(load: Callable[[int], Dataset]) -> None:
    raw = _with_values(
        load(CT), STEPS, RescaleSlope=1, RescaleIntercept=0, WindowCenter=350.5, WindowWidth=701
    )
    assert np.allclose(pixels(raw, window="file")[:, 0], np.array(STEPS) / 700, atol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_bigendian.dcm", "MR_small_implicit.dcm",
    ],
)  # fmt: skip
def test_every_lossless_syntax_gives_the_same_pixels(name: str) -> None:
    assert np.array_equal(pixels(FILES / name), pixels(FILES / "MR_small.dcm"))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("SC_ybr_full_422_uncompressed.dcm", "SC_rgb_dcmtk_+eb+cy+n2.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb_dcmtk_+eb+cy+n2.dcm"),
        ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cy+n2.dcm"),
    ],
)
def test_ybr_becomes_rgb(name: str, plain: str) -> None:
    found = pixels(FILES / name)
    assert found.shape == (100, 100, 3)
    assert np.abs(found - pixels(FILES / plain)).mean() < 0.03


def test_a_palette_becomes_its_colours() -> None:
    found = pixels(FILES / "examples_palette.dcm")
    assert found.ndim == 3
    assert found.shape[2] == 3
    assert 0 <= found.min() < found.max() <= 1


def test_an_unusable_window_is_left_out_and_counted(load: Callable[[int], Dataset]) -> None:
    raw = _with_values(load(DX), STEPS, WindowCenter=10, WindowWidth=-5)
    found = asked(raw)
    assert found.repairs == ("no_window",)
    assert np.allclose(found.images[0][:, 0], np.array(STEPS) / 1023, atol=1e-3)


def test_32_bits_are_scaled_without_a_table(load: Callable[[int], Dataset]) -> None:
    dataset = load(DX)
    stored = np.repeat(np.array(STEPS, dtype="<u4")[:, None] * 1_000_000, 8, axis=1)
    dataset.Rows, dataset.Columns, dataset.PixelData = 8, 8, stored.tobytes()
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 32, 32, 31
    dataset.WindowCenter, dataset.WindowWidth = 350_000_000.5, 700_000_001
    assert np.allclose(pixels(saved(dataset))[:, 0], np.array(STEPS) / 700, atol=1e-4)


def test_a_frame_that_would_fill_the_memory_is_refused_before_decoding() -> None:
    assert refused(saved(sample("CT_small.dcm", Rows=60000, Columns=60000))) is Refusal.TOO_LARGE
    assert refused(saved(sample("CT_small.dcm", Rows=4))) is Refusal.TOO_SMALL


def test_a_jpeg_of_12_bits_has_no_free_decoder() -> None:
    assert refused(FILES / "JPEG-lossy.dcm") is Refusal.NO_DECODER


@given(
    arrays(np.float32, st.tuples(st.integers(8, 70), st.integers(8, 70)), elements=st.floats(0, 1, width=32)),
    st.sampled_from([28, 32, 64]),
)
def test_shrinking_is_that_of_monai(image: np.ndarray[Any, np.dtype[np.float32]], side: int) -> None:
    data = config("dicom", "x", image_size=side)
    expected = prepare(image[None], data, (0, 1))
    assert torch.allclose(prepare(shrink(image, side)[None], data, (0, 1)), expected, atol=1e-5)
