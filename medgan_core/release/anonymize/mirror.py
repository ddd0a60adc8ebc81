"""The structure of a real cohort, repeated: who was seen how often and when, in how many slices. NOT DP.

Who knows a patient's visits can find them here, though no name and no date is the real one.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

import numpy as np
import pydicom
import torch
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from medgan_core.data.places import Place
from medgan_core.data.tables import LABEL_COLUMNS, read_table
from medgan_core.errors import DataError, InputError
from medgan_core.release.anonymize.admission import is_image
from medgan_core.release.anonymize.dates import Shift
from medgan_core.release.anonymize.files import every_file
from medgan_core.release.anonymize.identifiers import PseudonymKey
from medgan_core.release.anonymize.silence import silence
from medgan_core.release.anonymize.structure import PatientPlan, SeriesPlan, StudyPlan, shares_of
from medgan_core.release.bundle import Release
from medgan_core.release.dicom.geometry import AXIAL, Orientation
from medgan_core.seeds import Seeds

MANIFEST = "manifest.csv"
_CORONAL: Orientation = (1, 0, 0, 0, 0, -1)
_SAGITTAL: Orientation = (0, 1, 0, 0, 0, -1)
_BY_AXIS = (_SAGITTAL, _CORONAL, AXIAL)
_SAME = {"CR": "DX"}
_Label = Callable[[list[str]], int]


@dataclass
class Mirror:
    """Patients of a cohort under a key, which images were left out and why, how many series have labels."""

    patients: list[PatientPlan] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    labelled: int = 0


@dataclass
class _Images:
    """The images of a series: its first header, the names of its files, its slices."""

    header: Dataset
    names: list[str] = field(default_factory=list)
    slices: int = 0


def mirrored(source: Path, release: Release, modality: str, key: PseudonymKey, seed: int) -> Mirror:
    """The structure of the images of this modality in a folder; labels by its manifest.csv, else drawn.

    `manifest.csv` has the columns `file` and `label`, the latter a class of the release. Raises InputError
    where there is no image of the modality, DataError where the manifest cannot be read.
    """
    mirror = Mirror()
    with silence():
        grouped = _grouped(_headers(source, modality, mirror.left_out))
    if not grouped:
        raise InputError(f"IN holds no {modality} image of a patient, and the release makes no other")
    label = _labels(_manifest(source, release.facts.classes), shares_of(release), seed, mirror)
    for (issuer, patient), series in sorted(grouped.items(), key=lambda entry: key.pseudonym(*entry[0])):
        shift = Shift.of(key, issuer, patient)
        mirror.patients.append(PatientPlan(_studies(series, shift, label), key.pseudonym(issuer, patient)))
    return mirror


def known_as(modality: str) -> str:
    """What a modality is written as: CR as DX, anything but CT, MR and DX as SC."""
    modality = _SAME.get(modality.upper(), modality.upper())
    return modality if modality in ("CT", "MR", "DX") else "SC"


def modalities_of(source: Path, most: int) -> set[str]:
    """What the first images of a folder, `most` at most, would be written as."""
    with silence():
        images = islice(_images(source, Counter()), most)
        return {known_as(_text(header, "Modality") or "OT") for _, header in images}


def _images(source: Path, left_out: Counter[str]) -> Iterator[tuple[str, Dataset]]:
    for name, content in every_file(source):
        if name == MANIFEST:
            continue
        try:
            dataset = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
            admitted = is_image(dataset) and "Rows" in dataset
        except InvalidDicomError:
            left_out["no DICOM file"] += 1
        except Exception:  # damage shows as many kinds of errors
            left_out["a damaged DICOM file"] += 1
        else:
            if admitted:
                yield name, dataset
            else:
                left_out["not an image"] += 1


def _headers(source: Path, modality: str, left_out: Counter[str]) -> Iterator[tuple[str, Dataset]]:
    seen: set[str] = set()
    for name, header in _images(source, left_out):
        uid = str(header.get("SOPInstanceUID") or name)
        if known_as(str(header.get("Modality") or "OT")) != modality:
            left_out[f"not {modality}, which the release makes"] += 1
        elif not str(header.get("PatientID") or "").strip():
            left_out["an image without a patient (PatientID)"] += 1
        elif uid in seen:
            left_out["an image whose identifier another one had already"] += 1
        else:
            seen.add(uid)
            yield name, header


def _grouped(headers: Iterator[tuple[str, Dataset]]) -> dict[tuple[str, str], dict[tuple[str, str], _Images]]:
    """Series by (study, series) by (issuer, patient)."""
    found: dict[tuple[str, str], dict[tuple[str, str], _Images]] = {}
    for name, header in headers:
        patient = _text(header, "IssuerOfPatientID"), _text(header, "PatientID")
        place = _text(header, "StudyInstanceUID"), _text(header, "SeriesInstanceUID")
        images = found.setdefault(patient, {}).setdefault(place, _Images(header))
        images.names.append(name)
        images.slices += max(1, _number(header.get("NumberOfFrames")))
    return found


def _studies(series: Mapping[tuple[str, str], _Images], shift: Shift, label: _Label) -> list[StudyPlan]:
    studies: dict[str, StudyPlan] = {}
    for (study, _), images in series.items():
        plan = studies.setdefault(study, StudyPlan(taken=_moved(images.header, shift)))
        plan.series.append(SeriesPlan(images.slices, label(images.names), _plane(images.header)))
    return sorted(studies.values(), key=lambda plan: plan.taken or datetime.max)


def _moved(header: Dataset, shift: Shift) -> datetime | None:
    date, time = shift.date_time(_text(header, "StudyDate"), _text(header, "StudyTime"))
    return datetime.strptime(date + (time or "120000"), "%Y%m%d%H%M%S") if date else None


def _plane(header: Dataset) -> Orientation:
    """Axial, coronal or sagittal, whichever is nearest: a class, not the real angles."""
    try:
        row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    except (AttributeError, TypeError, ValueError):
        return AXIAL
    return _BY_AXIS[int(np.abs(np.cross(row, column)).argmax())]


def _labels(known: Mapping[str, int], shares: torch.Tensor, seed: int, mirror: Mirror) -> _Label:
    """The label of a series: that of its first image in the manifest, else drawn from the noisy shares."""
    random = Seeds(seed).child("labels").generator()

    def label(names: list[str]) -> int:
        told = [known[name] for name in names if name in known]
        mirror.labelled += bool(told)
        return told[0] if told else int(torch.multinomial(shares, 1, generator=random))

    return label


def _manifest(source: Path, classes: tuple[str, ...]) -> dict[str, int]:
    path = source / MANIFEST
    if not path.is_file():
        return {}
    table = read_table(Place(source, source), path)
    if not set(LABEL_COLUMNS) & set(table.columns):
        return {}
    labels = table.column(*LABEL_COLUMNS)
    unknown = [row for row, label in enumerate(labels) if label and label not in classes]
    if unknown:
        raise DataError(f"{table.where(unknown[0])}: its label is none of {', '.join(classes)}")
    files = table.column("file")
    return {name: classes.index(label) for name, label in zip(files, labels, strict=True) if label}


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def _number(value: object) -> int:
    try:
        return int(str(value or 0))
    except ValueError:
        return 0
