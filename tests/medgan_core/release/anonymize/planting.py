"""64 canaries in a file: what identifies somebody, in every place in which it has been seen."""

import io
import warnings
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
CANARIES = 64
_NAMES = (
    "PatientName OtherPatientNames ReferringPhysicianName PerformingPhysicianName OperatorsName "
    "NameOfPhysiciansReadingStudy PatientMotherBirthName"
)
_TEXTS = (
    "PatientID AccessionNumber StudyID InstitutionName InstitutionAddress StationName "
    "DeviceSerialNumber PatientAddress IssuerOfPatientID StudyDescription "
    "SeriesDescription ProtocolName PatientComments ImageComments AdditionalPatientHistory Manufacturer "
    "SoftwareVersions ManufacturerModelName EthnicGroup BodyPartExamined"
)
_DATES = "PatientBirthDate StudyDate SeriesDate AcquisitionDate ContentDate LastMenstrualDate"
_UIDS = (
    "StudyInstanceUID SeriesInstanceUID SOPInstanceUID FrameOfReferenceUID IrradiationEventUID "
    "InstanceCreatorUID SynchronizationFrameOfReferenceUID"
)


@dataclass
class Planted:
    """The bytes of a file, and all that was planted in it."""

    content: bytes
    canaries: list[str]


class _Planter:
    def __init__(self, number: int) -> None:
        self.number, self.canaries = number, list[str]()

    def text(self) -> str:
        return self._add(f"CNRY{self.number:04d}Q{len(self.canaries):02d}")

    def name(self) -> str:
        return self._add(f"Cnry{self.number:04d}xu{len(self.canaries):02d}")

    def uid(self) -> str:
        return self._add(f"1.2.826.0.1.3680043.8.77.{self.number + 1}.{len(self.canaries) + 1}")

    def date(self) -> str:
        day = date(1911, 1, 1) + timedelta(days=self.number * CANARIES + len(self.canaries))
        return self._add(f"{day:%Y%m%d}")

    def _add(self, canary: str) -> str:
        self.canaries.append(canary)
        return canary


def plant(source: Path, number: int) -> Planted | None:
    """A file with 64 canaries of its own `number`; None for what pydicom cannot read and write again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(source)
            dataset.decode()
        except Exception:
            return None
        planter = _Planter(number)
        _plain(dataset, planter)
        _hidden(dataset, planter)
        _nested(dataset, planter)
        try:
            content = _written(dataset, planter)
        except Exception:
            return None
    assert len(planter.canaries) == CANARIES
    return Planted(content, planter.canaries)


def _plain(dataset: Dataset, planter: _Planter) -> None:
    for keyword in _NAMES.split():
        setattr(dataset, keyword, f"{planter.name()}^A")
    for keyword in _TEXTS.split():
        setattr(dataset, keyword, planter.text())
    for keyword in _DATES.split():
        setattr(dataset, keyword, planter.date())
    for keyword in _UIDS.split():
        setattr(dataset, keyword, planter.uid())
    dataset.AcquisitionDateTime = f"{planter.date()}101112.123"


def _hidden(dataset: Dataset, planter: _Planter) -> None:
    block = dataset.private_block(0x0019, "CANARY MAKER", create=True)
    block.add_new(0x10, "LO", planter.text())
    block.add_new(0x11, "OB", b"\x01\x02" + planter.text().encode() + b"\0")
    block.add_new(0x12, "UN", b"\x03" + planter.text().encode())
    item = Dataset()
    item.PatientName = planter.name()
    block.add_new(0x13, "SQ", [item])
    dataset.add_new(0x60000022, "LO", planter.text())
    dataset.add_new(0x60003000, "OW", planter.text().encode() + b"\0")
    dataset.add_new(0x50000022, "LO", planter.text())
    dataset.add_new(0x50003000, "OW", planter.text().encode() + b"\0")
    dataset.add_new(Tag(0xFFFCFFFC), "OB", planter.text().encode() + b"\0")


def _nested(dataset: Dataset, planter: _Planter) -> None:
    unnamed, equipment, changed, modified = Dataset(), Dataset(), Dataset(), Dataset()
    unnamed.PersonName, unnamed.DeviceSerialNumber = planter.name(), planter.text()
    dataset.RealWorldValueMappingSequence = [unnamed]
    equipment.InstitutionName, equipment.StationName = planter.text(), planter.text()
    equipment.DeviceSerialNumber = planter.text()
    dataset.ContributingEquipmentSequence = [equipment]
    changed.PatientName, changed.PatientID = planter.name(), planter.text()
    modified.ModifiedAttributesSequence = [changed]
    modified.SourceOfPreviousValues = planter.text()
    dataset.OriginalAttributesSequence = [modified]
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator = "51185008", "SCT"
    region.CodeMeaning = planter.text()
    dataset.AnatomicRegionSequence = [region]
    referenced = Dataset()
    referenced.ReferencedSOPInstanceUID = planter.uid()
    dataset.ReferencedImageSequence = [referenced]


def _written(dataset: Dataset, planter: _Planter) -> bytes:
    meta = dataset.file_meta
    meta.SourceApplicationEntityTitle = planter.text()
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.PrivateInformationCreatorUID = UID(planter.uid())
    meta.PrivateInformation = planter.text().encode() + b"\0"
    if "TransferSyntaxUID" not in meta:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
    preamble = planter.text().encode()
    dataset.preamble = preamble + b"\0" * (128 - len(preamble))
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
