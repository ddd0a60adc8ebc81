"""Which files of a real cohort are de-identified with their pixels kept, and why the others are refused.

An image is numbers, and the rules know each of them. A report, a plan or a contour is words and names of
structures that somebody typed: no rule can be sure of them, so that they stay where they are.
"""

import io

import pydicom
from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from medgan_core.errors import DataError

IMAGES = frozenset(
    """
    CTImageStorage MRImageStorage ComputedRadiographyImageStorage EnhancedCTImageStorage
    EnhancedMRImageStorage LegacyConvertedEnhancedCTImageStorage LegacyConvertedEnhancedMRImageStorage
    LegacyConvertedEnhancedPETImageStorage DigitalXRayImageStorageForPresentation
    DigitalXRayImageStorageForProcessing DigitalMammographyXRayImageStorageForPresentation
    DigitalMammographyXRayImageStorageForProcessing UltrasoundImageStorage
    UltrasoundMultiFrameImageStorage SecondaryCaptureImageStorage
    MultiFrameSingleBitSecondaryCaptureImageStorage MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage MultiFrameTrueColorSecondaryCaptureImageStorage
    NuclearMedicineImageStorage PositronEmissionTomographyImageStorage XRayAngiographicImageStorage
    XRayRadiofluoroscopicImageStorage
    """.split()  # noqa: SIM905 - one name a line would be a page
)
"""Keywords of the SOP classes whose images are de-identified."""


def open_image(content: bytes) -> Dataset:
    """The data set of an image that the rules know. Raises DataError saying what it is instead."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
        _admit(dataset)
    except DataError:
        raise
    except InvalidDicomError as error:
        raise DataError("no DICOM file") from error
    except Exception as error:  # damage shows as many kinds of errors
        raise DataError("a damaged DICOM file") from error
    return dataset


def is_image(dataset: Dataset) -> bool:
    """Whether a data set is of a SOP class that the rules know."""
    uid = UID(str(dataset.get("SOPClassUID") or ""))
    return uid in UID_dictionary and uid.keyword in IMAGES


def _admit(dataset: Dataset) -> None:
    uid = UID(str(dataset.get("SOPClassUID") or ""))
    if not is_image(dataset):
        raise DataError(
            f"not an image that the rules know: {uid.name if uid in UID_dictionary else 'unknown'}"
        )
    if "PixelData" not in dataset:
        raise DataError("an image without pixels")
    if str(dataset.get("SyntheticData") or "") == "YES":
        raise DataError("synthetic already")
    for keyword, what in (("PatientID", "a patient"), ("SOPInstanceUID", "an identifier of its own")):
        if not str(dataset.get(keyword) or "").strip():
            raise DataError(f"an image without {what} ({keyword})")
