"""What every DICOM output of a real image says: whose it is, what it was made of, and by what.

The patient and the study are those of the source: an output is that patient's, and as private as the source.
SyntheticData (0008,001C) is not set: elsewhere in MedGAN it means that there is no patient behind an image.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from highdicom import ContributingEquipment
from pydicom import Dataset
from pydicom.sr.codedict import codes

from medgan_core.release.apply.pictures import Origin
from medgan_core.release.dicom.provenance import MAKER
from medgan_core.release.dicom.uids import derived_uid

_DEMANDED = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Attributes of type 2, which real files lack now and then."""


def uid_of(origin: Origin, *names: object) -> str:
    """An identifier that is the same for the same model, version, work and names."""
    return derived_uid(origin.model, 0, 0, origin.version, origin.words, *names)


def equipment(origin: Origin) -> ContributingEquipment:
    """The network, as the equipment that processed an image (PS3.3 C.12.1.1.5)."""
    return ContributingEquipment(
        MAKER,
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=f"network of {origin.study}"[:64],
        software_versions=origin.version,
        device_serial_number=origin.model,
        contribution_datetime=datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000"),
        contribution_description=origin.described()[:1024],
    )


def reference(source: Dataset, frame: int | None = None) -> Dataset:
    """An item of SourceImageSequence (PS3.3 C.12.4.1); `frame` from 0."""
    item, purpose = Dataset(), Dataset()
    item.ReferencedSOPClassUID = source.SOPClassUID
    item.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame + 1
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code.value, "DCM", code.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def complete(sources: Sequence[Dataset]) -> list[Dataset]:
    """Shallow copies with empty attributes where the standard demands them and a file lacks them."""
    copies = []
    for source in sources:
        copy = Dataset(source)
        if hasattr(source, "file_meta"):
            copy.file_meta = source.file_meta
        for keyword in _DEMANDED:
            if keyword not in copy:
                setattr(copy, keyword, "")
        copies.append(copy)
    return copies


def stamp(dataset: Dataset) -> None:
    """When it was made: now."""
    now = datetime.now()
    dataset.InstanceCreationDate = dataset.ContentDate = dataset.SeriesDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.ContentTime = dataset.SeriesTime = now.strftime("%H%M%S")


def series_number(source: Dataset, more: int) -> int:
    """Of the output's series: that of the source, and `more`."""
    try:
        return int(source.get("SeriesNumber") or 0) + more
    except ValueError:
        return more
