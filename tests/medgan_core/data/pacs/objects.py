"""DICOM objects in memory that are easy to recognise, and an archive in memory that holds them."""

import io
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from medgan_core.data.pacs.source import Receive
from medgan_core.errors import SourceError

NAME, PATIENT = "Lovelace^Ada", "ID-1815"


def image(number: int = 1, *, study: str = "1", seed: int = 0, **changes: object) -> Dataset:
    """A CT of 32×32 random pixels; study, series and object have the UIDs 2.25.<study>[.1[.<number>]]."""
    random = np.random.default_rng([seed, number, int(study)])
    dataset = Dataset()
    dataset.preamble = bytes(128)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.StudyInstanceUID = f"2.25.{study}"
    dataset.SeriesInstanceUID = f"2.25.{study}.1"
    dataset.SOPInstanceUID = f"2.25.{study}.1.{number}"
    dataset.PatientName, dataset.PatientID = NAME, f"{PATIENT}-{study}"
    dataset.AccessionNumber = f"ACC-{study}"
    dataset.StudyDate, dataset.Modality, dataset.BodyPartExamined = "20240310", "CT", "CHEST"
    dataset.StudyDescription, dataset.SeriesDescription = "CT of the chest", "Lung 1.0"
    dataset.Rows = dataset.Columns = 32
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = random.integers(0, 4096, (32, 32), dtype=np.uint16).tobytes()
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def raw(dataset: Dataset) -> bytes:
    """The file's bytes."""
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


@cache
def _header(content: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(content))


@dataclass
class Memory:
    """An archive in memory that ignores every key. `broken` series fail so many times before they come."""

    objects_: list[bytes]
    broken: dict[str, int] = field(default_factory=dict)
    short: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    at_once: int = 0
    most: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def studies(self, keys: Mapping[str, str]) -> list[Dataset]:
        return self._told("StudyInstanceUID", ("StudyInstanceUID", "StudyDate", "StudyDescription"))

    def series(self, study: str) -> list[Dataset]:
        wanted = (
            "SeriesInstanceUID",
            "StudyInstanceUID",
            "Modality",
            "BodyPartExamined",
            "SeriesDescription",
        )
        return [told for told in self._told("SeriesInstanceUID", wanted) if told.StudyInstanceUID == study]

    def objects(self, study: str, series: str) -> frozenset[str]:
        return frozenset(str(header.SOPInstanceUID) for _, header in self._of(series))

    def fetch(self, study: str, series: str, receive: Receive) -> None:
        with self._lock:
            self.fetched.append(series)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            left = self.broken.get(series, 0)
            self.broken[series] = left - 1
        try:
            for number, (content, _) in enumerate(self._of(series)):
                if number == 1 and (left > 0 or series in self.short):
                    if left > 0:
                        raise SourceError("it broke off", passing=True)
                    return
                receive(content)
        finally:
            with self._lock:
                self.at_once -= 1

    def close(self) -> None:
        pass

    def _of(self, series: str) -> list[tuple[bytes, Dataset]]:
        return [
            (content, header) for content, header in self._headers() if header.SeriesInstanceUID == series
        ]

    def _headers(self) -> list[tuple[bytes, Dataset]]:
        return [(content, _header(content)) for content in self.objects_]

    def _told(self, uid: str, wanted: tuple[str, ...]) -> list[Dataset]:
        found = {}
        for _, header in self._headers():
            told = Dataset()
            for name in wanted:
                if name in header:
                    setattr(told, name, header[name].value)
            found[str(header[uid].value)] = told
        return list(found.values())
