"""What CT, MR, DX and SC images must say beside their pixels: PS3.3 sections A.3, A.4, A.26 and A.8.

What would be a statement about a machine that never was (tube voltage, echo time) stays empty.
"""

from typing import Any

import numpy as np
from highdicom._standard_utils import get_anatomic_region_map
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import DSfloat

from medgan_core.data.dicom.windows import CT_WINDOWS
from medgan_core.release.dicom.geometry import Geometry
from medgan_core.release.dicom.patients import Series

SOP_CLASSES = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "SC": SecondaryCaptureImageStorage,
}
TWELVE_BITS = 4095
_THIRD = {"CT": ["AXIAL"], "MR": ["OTHER"], "DX": [""], "SC": []}


def add_image(dataset: Dataset, series: Series, position: int, frame: str) -> None:
    """Add the modality's attributes and the pixels of a slice; `frame` is the frame of reference."""
    dataset.ImageType = ["DERIVED", "SECONDARY", *_THIRD[series.modality]]
    dataset.BodyPartExamined = series.body_part
    if series.laterality:
        dataset.Laterality = series.laterality
    if series.modality in ("CT", "MR"):
        _add_plane(dataset, _geometry(series), position, frame)
    {"CT": _add_ct, "MR": _add_mr, "DX": _add_dx, "SC": _add_sc}[series.modality](dataset, series)
    _add_pixels(dataset, series, position)


def stored(series: Series, position: int) -> NDArray[Any]:
    """The stored values of a slice, from uint8 grey levels by the modality's public range.

    CT: HU as int16, 0 and 255 being the ends of the window. MR and DX: 12 bits in uint16. SC: as they are.
    """
    levels: NDArray[Any] = series.pixels[position]
    if levels.dtype != np.uint8 or series.modality == "SC":
        return levels
    if series.modality == "CT":
        centre, width = series.window or CT_WINDOWS["lung"]
        hounsfield = np.round(centre - width / 2 + levels * (width / 255))
        return hounsfield.clip(-32768, 32767).astype(np.int16)
    return np.round(levels * (TWELVE_BITS / 255)).astype(np.uint16)


def window(series: Series) -> tuple[float, float]:
    """Centre and width for display: as given, else CT's public window or the whole range (C.11.2.1.2)."""
    if series.window is not None:
        return series.window
    if series.modality == "CT":
        return CT_WINDOWS["lung"]
    width = TWELVE_BITS + 1 if series.pixels.dtype == np.uint8 else 2**16
    return width / 2, width


def _add_pixels(dataset: Dataset, series: Series, position: int) -> None:
    values = stored(series, position)
    grey = values.ndim == 2
    bits = 8 * values.itemsize
    if series.pixels.dtype == np.uint8 and series.modality in ("MR", "DX"):
        bits = 12
    dataset.set_pixel_data(
        np.ascontiguousarray(values), "MONOCHROME2" if grey else "RGB", bits, generate_instance_uid=False
    )
    dataset.LossyImageCompression = "00"


def _add_plane(dataset: Dataset, geometry: Geometry, position: int, frame: str) -> None:
    place = geometry.positions[position]
    dataset.FrameOfReferenceUID = frame
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = geometry.patient_position
    dataset.PixelSpacing = _decimals(*geometry.spacing)
    (dataset.SliceThickness,) = _decimals(geometry.thickness)
    dataset.ImageOrientationPatient = _decimals(*geometry.orientation)
    dataset.ImagePositionPatient = _decimals(*place)
    (dataset.SliceLocation,) = _decimals(geometry.along(place))
    dataset.AcquisitionNumber = None


def _add_window(dataset: Dataset, series: Series) -> None:
    (dataset.WindowCenter,), (dataset.WindowWidth,) = map(_decimals, window(series))


def _add_ct(dataset: Dataset, series: Series) -> None:
    dataset.KVP = None
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "1", "0", "HU"
    _add_window(dataset, series)


def _add_mr(dataset: Dataset, series: Series) -> None:
    dataset.ScanningSequence, dataset.SequenceVariant = "RM", "NONE"
    dataset.ScanOptions = dataset.MRAcquisitionType = ""
    dataset.RepetitionTime = dataset.EchoTime = dataset.EchoTrainLength = None
    _add_window(dataset, series)


def _add_dx(dataset: Dataset, series: Series) -> None:
    region = Dataset()
    code, _ = get_anatomic_region_map()[series.body_part]
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = code.value, "SCT", code.meaning
    dataset.AnatomicRegionSequence = [region]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImageLaterality = series.laterality or "U"
    if "Laterality" in dataset:
        del dataset.Laterality
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImagerPixelSpacing = _decimals(*_geometry(series).spacing)
    dataset.PositionerType, dataset.DetectorType = "NONE", ""
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "1", "0", "US"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.AcquisitionContextSequence = []
    _add_window(dataset, series)


def _add_sc(dataset: Dataset, series: Series) -> None:
    dataset.ConversionType = "SYN"
    dataset.PatientOrientation = None
    if series.geometry is not None:
        dataset.PixelSpacing = _decimals(*series.geometry.spacing)


def _geometry(series: Series) -> Geometry:
    return series.geometry or Geometry()


def _decimals(*values: float) -> list[DSfloat]:
    return [DSfloat(value + 0.0, auto_format=True) for value in values]
