"""A heat map over its image as a colour Secondary Capture (PS3.3 A.8.1), which every viewer shows."""

import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from medgan_core.release.apply.marks import complete, equipment, reference, series_number, stamp, uid_of
from medgan_core.release.apply.pictures import Origin
from medgan_core.release.dicom.provenance import MAKER

_NUMBER = 4000


def heat_picture(
    source: Dataset, frame: int, picture: NDArray[np.uint8], score: float | None, origin: Origin
) -> Dataset:
    """The `picture` [h, w, 3] of a frame (from 0), with the patient and the study of its source."""
    (file,) = complete([source])
    several = int(source.get("NumberOfFrames") or 1) > 1
    orientation = list(source.get("PatientOrientation") or [])
    told = len(orientation) == 2
    dataset: Dataset = SCImage.from_ref_dataset(
        file,
        picture,
        "RGB",
        8,
        "PATIENT",
        series_instance_uid=uid_of(origin, "series", source.get("SeriesInstanceUID", "")),
        series_number=series_number(source, _NUMBER),
        sop_instance_uid=uid_of(origin, "heat", source.SOPInstanceUID, frame),
        instance_number=max(1, series_number(Dataset(), int(source.get("InstanceNumber") or 0)) + frame),
        manufacturer=MAKER,
        patient_orientation=(orientation[0], orientation[1]) if told else ("L", "F"),
        contributing_equipment=[equipment(origin)],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    if not told:
        dataset.PatientOrientation = None
    said = "" if score is None else f", score {score:.3f}"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.SeriesDescription = f"heat map by {origin.study}"[:64]
    dataset.DerivationDescription = f"{origin.described()}{said}"[:1024]
    dataset.SourceImageSequence = [reference(source, frame if several else None)]
    _copy_region(dataset, source)
    if source.get("PixelSpacing"):
        dataset.PixelSpacing = source.PixelSpacing
    stamp(dataset)
    return dataset


def _copy_region(dataset: Dataset, source: Dataset) -> None:
    """The part of the body, and its side where there may be one."""
    if source.get("BodyPartExamined"):
        dataset.BodyPartExamined = source.BodyPartExamined
    side = str(source.get("Laterality") or source.get("ImageLaterality") or "")
    side = side if side in ("L", "R") else ""
    if side or "BodyPartExamined" not in dataset:
        dataset.Laterality = side
