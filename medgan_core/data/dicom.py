"""DICOM files to pixels in [0, 1] and a patient: what is read, what is refused, and why.

Scaling looks at one file at a time: CT by a public lung window, others by the file's own window or its full
range. Only pixels and the patient's key leave this module; no other attribute is kept.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from medgan_core.config import DataConfig
from medgan_core.data.catalog import missing
from medgan_core.data.folder import Row, Store, list_rows, open_store
from medgan_core.data.places import DAMAGE, Place
from medgan_core.data.records import Records
from medgan_core.data.transforms import SMALLEST, prepare_each
from medgan_core.errors import DataError

SOP_CLASSES = {
    CTImageStorage: "CT",
    MRImageStorage: "MR",
    ComputedRadiographyImageStorage: "CR",
    DigitalXRayImageStorageForPresentation: "DX for presentation",
    SecondaryCaptureImageStorage: "SC",
}
CT_WINDOW = (-600.0, 1500.0)
"""Centre and width in HU: the usual lung window, a public constant."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DicomImage:
    """`pixels` [channels, h, w] float32 in [0, 1], bright where the tissue is dense; `patient` a key."""

    pixels: Pixels
    patient: str


def read_dicom(source: Path | bytes, data: DataConfig, *, name: str = "") -> DicomImage:
    """Read one file (or its bytes; `name` is what errors call it).

    Raises DataError for anything but a single grey frame of an allowed SOP class with a patient.
    """
    name = name or (source.name if isinstance(source, Path) else "DICOM file")
    try:
        raw = source.read_bytes() if isinstance(source, Path) else source
        # pydicom warns of attributes that we never look at
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(raw), force=True)
            _admit(dataset)
            pixels = _pixels(dataset)
            patient = str(dataset.PatientID).strip()
    except DataError as error:
        raise DataError(f"{name} {error}") from error
    except DAMAGE as error:
        raise DataError(f"{name} is damaged or no DICOM file ({type(error).__name__}); replace it") from error
    return DicomImage(np.repeat(pixels[None], data.channels, axis=0), patient)


def read_dicom_folder(data: DataConfig, place: Place) -> Records:
    """A tree of DICOM files with its manifest; a row without a patient takes the file's PatientID."""
    if not (data.patients or data.labels or (place.folder / "manifest.csv").is_file()):
        raise missing(place.shown(place.folder / "manifest.csv"))
    with ExitStack() as stack:
        store = open_store(place, stack)
        listing = list_rows(data, place, store)
        patients: list[str] = []
        files: list[Path] = []

        def decoded() -> Iterator[NDArray[Any]]:
            for row in listing.rows:
                image, path = _of_row(store, row, data)
                patients.append(row.patient or image.patient)
                files.append(path)
                yield image.pixels.transpose(1, 2, 0)

        images = prepare_each(decoded(), len(listing.rows), data, (0, 1))
    return listing.records(images, tuple(patients), tuple(files), unit="patient")


def _of_row(store: Store, row: Row, data: DataConfig) -> tuple[DicomImage, Path]:
    raw, path = store.read(row.file, row.where)
    return read_dicom(raw, data, name=f"{row.where}: {row.file}"), path


def _admit(dataset: Dataset) -> None:
    """Refuse what may not be trained on, before any pixel is decoded."""
    if dataset.get("SOPClassUID") not in SOP_CLASSES:
        allowed = ", ".join(SOP_CLASSES.values())
        raise DataError(f"is of SOP class {dataset.get('SOPClassUID') or 'none'}; expected one of {allowed}")
    if str(dataset.get("SyntheticData", "")).upper() == "YES":
        raise DataError("is marked SyntheticData YES; synthetic images are no training data")
    if not str(dataset.get("PatientID") or "").strip():
        raise DataError("has no PatientID; an image without a patient is refused")
    if "PixelData" not in dataset:
        raise DataError("has no PixelData")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise DataError(f"has {dataset.NumberOfFrames} frames; expected a single one")
    photometric = dataset.get("PhotometricInterpretation")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"is {photometric}; expected MONOCHROME1 or MONOCHROME2")
    if min(int(dataset.Rows), int(dataset.Columns)) < SMALLEST:
        raise DataError(
            f"has {dataset.Rows}×{dataset.Columns} pixels; expected at least {SMALLEST}×{SMALLEST}"
        )


def _pixels(dataset: Dataset) -> Pixels:
    """[h, w] in [0, 1]: modality LUT, then the window, then MONOCHROME1 turned bright on dark."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        raise DataError(f"is compressed as {syntax.name}, for which no decoder is installed")
    # pydicom would cut off the bits above BitsStored, and values wrap silently
    stored = pixel_array(dataset, correct_unused_bits=False)
    low, high = _stored_range(dataset)
    if stored.min() < low or stored.max() > high:
        raise DataError(f"has pixels outside of BitsStored = {dataset.BitsStored}, [{low}, {high}]")
    scaled_by_file = None not in (dataset.get("RescaleSlope"), dataset.get("RescaleIntercept"))
    if not scaled_by_file and dataset.SOPClassUID == CTImageStorage:
        raise DataError("is CT without RescaleSlope and RescaleIntercept; its values are not in HU")
    rescaled = scaled_by_file or "ModalityLUTSequence" in dataset
    values = apply_modality_lut(stored, dataset) if rescaled else stored
    scaled = _windowed(values.astype(np.float64), dataset)
    if not np.isfinite(scaled).all():
        raise DataError("has values that are no numbers")
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    return (1 - scaled if inverted else scaled).astype(np.float32)


def _stored_range(dataset: Dataset) -> tuple[int, int]:
    bits = int(dataset.BitsStored)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dataset.PixelRepresentation else (0, 2**bits - 1)


def _windowed(values: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    if dataset.SOPClassUID == CTImageStorage:
        return _linear(values, *CT_WINDOW)
    if dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0].LUTDescriptor
        looked_up = np.asarray(apply_voi(values.astype(np.int64), dataset), dtype=np.float64)
        largest = 2 ** int(table[2]) - 1
        return _linear(looked_up, largest / 2, largest)
    center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if center is not None and width is not None and width > 0:
        return _by_function(values, center, width, str(dataset.get("VOILUTFunction") or "LINEAR"))
    if dataset.SOPClassUID == MRImageStorage:  # arbitrary units: this image's own range
        low, high = np.percentile(values, (0.5, 99.5))
        return _linear(values, (low + high) / 2, max(high - low, 1e-6))
    low, high = _stored_range(dataset)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return np.clip(((values - intercept) / slope - low) / (high - low), 0, 1)


def _by_function(values: NDArray[Any], center: float, width: float, function: str) -> NDArray[Any]:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, with the output range [0, 1]."""
    if function == "SIGMOID":
        exponent: NDArray[Any] = np.clip(-4 * (values - center) / width, -50, 50)
        return np.asarray(1 / (1 + np.exp(exponent)))
    if function == "LINEAR_EXACT" or width <= 1:
        return _linear(values, center, width)
    return _linear(values, center - 0.5, width - 1)


def _linear(values: NDArray[Any], center: float, width: float) -> NDArray[Any]:
    scaled: NDArray[Any] = np.clip((values - center) / width + 0.5, 0, 1)
    return scaled


def _first(value: Any) -> float | None:
    """A window may have several values, the first being the default, or none."""
    if value is None or value == "":
        return None
    return float(value[0] if hasattr(value, "__getitem__") and not isinstance(value, str) else value)
