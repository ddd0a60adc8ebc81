"""A segmentation of synthetic slices as DICOM SEG (PS3.3 section A.51), written by highdicom."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from medgan_core.errors import InputError
from medgan_core.release.dicom.datasets import identify, mark
from medgan_core.release.dicom.patients import Masks, Segment, Study
from medgan_core.release.dicom.provenance import MAKER, Provenance
from medgan_core.release.dicom.uids import derived_uid

_NUMBER = 1000
"""Added to a series' number: that of its segmentation."""


def write_segmentation(
    slices: Sequence[Dataset], masks: Masks, study: Study, number: int, provenance: Provenance
) -> Dataset:
    """The SEG dataset of `masks` [n, h, w] over the `slices` of the series at position `number` of a study.

    It has the study and the patient of its slices, refers to each of them, and is marked as they are. Raises
    InputError where the masks do not fit.
    """
    values = _checked(masks, slices)
    series = study.series[number]
    first, facts = series.index, series.facts()
    names = [derived_uid(provenance.model, provenance.seed, first, name, facts) for name in _NAMES]
    dataset = Segmentation(
        slices,
        values,
        SegmentationTypeValues.BINARY,
        [
            described(n, segment, f"generator of {provenance.study}", provenance.version)
            for n, segment in enumerate(masks.segments, start=1)
        ],
        series_instance_uid=masks.uid or names[0],
        series_number=number + 1 + _NUMBER,
        sop_instance_uid=masks.instance_uid or names[1],
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=f"generator of {provenance.study}"[:64],
        software_versions=provenance.version,
        device_serial_number=provenance.model,
        omit_empty_frames=False,
        series_description=f"segmentation of series {number + 1}",
    )
    identify(dataset, study, provenance)
    mark(dataset, provenance, f"segmentation of images {first} to {first + len(slices) - 1}")
    fix_dimensions(dataset, names[2])
    if "ImagePositionPatient" not in slices[0]:
        dataset.PatientOrientation = None  # required of images that have no place in a patient
    return dataset


_NAMES = ("segmentation series", "segmentation", "segmentation dimensions")


def _checked(masks: Masks, slices: Sequence[Dataset]) -> NDArray[np.uint8]:
    shape = (len(slices), int(slices[0].Rows), int(slices[0].Columns))
    if masks.values.dtype != np.uint8 or masks.values.shape != shape:
        raise InputError(
            f"masks {masks.values.dtype} {list(masks.values.shape)}: expected uint8 {list(shape)}"
        )
    if not masks.segments or masks.values.max(initial=0) > len(masks.segments):
        raise InputError(f"masks up to {masks.values.max(initial=0)}: expected 0 to {len(masks.segments)}")
    return masks.values


def described(number: int, segment: Segment, algorithm: str, version: str) -> SegmentDescription:
    """What the value `number` of a mask means, and which version of which algorithm drew it."""
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=Code(*segment.category),
        segmented_property_type=Code(*segment.kind),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            algorithm[:64], codes.DCM.ArtificialIntelligence, version
        ),
    )


def fix_dimensions(dataset: Any, uid: str) -> None:
    """Give a segmentation's dimensions this identifier: the library draws one anew each time."""
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
