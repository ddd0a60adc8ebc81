"""A mask of real slices as DICOM SEG (PS3.3 A.51) of the same patient and study."""

from collections.abc import Sequence

import numpy as np
from highdicom.seg import Segmentation, SegmentationTypeValues
from numpy.typing import NDArray
from pydicom import Dataset

from medgan_core.release.apply.marks import complete, equipment, series_number, uid_of
from medgan_core.release.apply.pictures import Origin
from medgan_core.release.dicom.patients import Segment
from medgan_core.release.dicom.provenance import MAKER
from medgan_core.release.dicom.segmentation import described, fix_dimensions

_NUMBER = 1000
_CATEGORY = ("91723000", "SCT", "Anatomical structure")
TISSUE = ("85756007", "SCT", "Tissue")


def segmentation(sources: Sequence[Dataset], masks: NDArray[np.uint8], origin: Origin) -> Dataset:
    """The SEG of `masks` [n, h, w] over all frames of the sources, in their order."""
    files = complete(sources)
    for file in files:
        if "ImagePositionPatient" not in file and "SharedFunctionalGroupsSequence" not in file:
            file.pop("FrameOfReferenceUID", None)
    first = files[0]
    segment = Segment(origin.label[:64], category=_CATEGORY, kind=origin.code or TISSUE)
    names = [
        uid_of(origin, name, *(file.SOPInstanceUID for file in files)) for name in ("series", "mask", "axes")
    ]
    dataset = Segmentation(
        files,
        masks,
        SegmentationTypeValues.BINARY,
        [described(1, segment, f"network of {origin.study}", origin.version)],
        series_instance_uid=names[0],
        series_number=series_number(first, _NUMBER),
        sop_instance_uid=names[1],
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=f"network of {origin.study}"[:64],
        software_versions=origin.version,
        device_serial_number=origin.model,
        omit_empty_frames=bool(masks.any()),
        series_description=f"segmentation by {origin.study}"[:64],
        contributing_equipment=[equipment(origin)],
    )
    fix_dimensions(dataset, names[2])
    if "ImagePositionPatient" not in first and "PatientOrientation" not in dataset:
        dataset.PatientOrientation = None  # required of images that have no place in a patient
    return dataset
