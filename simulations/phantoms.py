"""Chest-like phantoms as real DICOM files, for a simulation that needs no data.

Every picture is a frontal chest: dark lungs, bright heart and spine, ribs, diaphragm. Patients of the class
`opacity` have one or two bright blurs in a lung. Sites differ in scanner, size and case load. The persons
are fake, and no picture descends from a patient.
"""

import csv
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from medgan_core.config import PhantomsConfig
from medgan_core.seeds import Seeds

CLASSES = ("normal", "opacity")
Picture = NDArray[np.float64]


@dataclass(frozen=True)
class Scanner:
    """How a site looks: storage; blur in pixels, noise and contrast; who comes to it.

    `aspect` is rows over columns, `size` scales the number of patients, `ill` is the share with an opacity.
    """

    modality: str
    photometric: str
    bits: int
    aspect: float
    blur: float
    noise: float
    gamma: float
    size: float
    ill: float


SCANNERS = (
    Scanner("CT", "MONOCHROME2", 12, 1.0, 0.5, 0.020, 1.0, size=0.6, ill=0.30),
    Scanner("DX", "MONOCHROME1", 12, 1.0, 0.0, 0.012, 0.9, size=1.0, ill=0.50),
    Scanner("DX", "MONOCHROME2", 10, 1.25, 0.8, 0.028, 1.15, size=1.4, ill=0.65),
)
"""The scanners of the sites, in turn."""


@dataclass(frozen=True)
class Anatomy:
    """One person's chest in units of half the picture; `blurs` are opacities as (x, y, width, strength)."""

    lung_width: float
    lung_height: float
    heart: float
    tilt: float
    ribs: float
    dome: float
    blurs: tuple[tuple[float, float, float, float], ...]


def make_phantoms(folder: Path, phantoms: PhantomsConfig, sites: int, seeds: Seeds) -> None:
    """Write `folder/<site>/<patient>/<n>.dcm` and, last, `folder/manifest.csv` (file,patient,label,site).

    The same seeds give the same bytes. A folder without its manifest was interrupted and is not finished.
    """
    manifest = folder / "manifest.csv"
    folder.mkdir(parents=True, exist_ok=True)
    manifest.unlink(missing_ok=True)
    rows = []
    for site in range(1, sites + 1):
        scanner = SCANNERS[(site - 1) % len(SCANNERS)]
        for number in range(1, max(1, round(phantoms.patients * scanner.size)) + 1):
            rows += _write_patient(folder, site, number, phantoms, seeds)
    draft = folder / "manifest.csv.part"
    with draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "patient", "label", "site"), *rows])
    draft.replace(manifest)


def _write_patient(
    folder: Path, site: int, number: int, phantoms: PhantomsConfig, seeds: Seeds
) -> list[tuple[str, str, str, str]]:
    own = seeds.child("phantoms", site, number)
    random = np.random.default_rng(own.integer())
    scanner = SCANNERS[(site - 1) % len(SCANNERS)]
    label = int(random.random() < scanner.ill)
    anatomy = draw_anatomy(random, opacity=bool(label))
    patient = f"phantom-{site}-{number:04d}"
    rows = []
    for image in range(1, int(random.integers(1, phantoms.max_images + 1)) + 1):
        picture = scan(render(anatomy, phantoms.pixels, scanner.aspect, random), scanner, random)
        dataset = _dataset(picture, scanner, own, patient, number, image)
        name = f"site-{site}/{patient}/{image}.dcm"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
        rows.append((name, patient, CLASSES[label], f"site-{site}"))
    return rows


def draw_anatomy(random: np.random.Generator, *, opacity: bool) -> Anatomy:
    """A person; with `opacity`, one blur or two of the same lung, at a variable place."""
    side = random.choice((-1, 1))
    blurs = tuple(
        (
            float(side * random.uniform(0.36, 0.54)),
            float(random.uniform(-0.35, 0.30)),
            float(random.uniform(0.13, 0.20)),
            float(random.uniform(0.40, 0.55)),
        )
        for _ in range(int(random.integers(1, 3)) if opacity else 0)
    )
    return Anatomy(
        lung_width=float(random.uniform(0.29, 0.34)),
        lung_height=float(random.uniform(0.64, 0.74)),
        heart=float(random.uniform(0.24, 0.32)),
        tilt=float(random.uniform(-0.04, 0.04)),
        ribs=float(random.uniform(17.0, 21.0)),
        dome=float(random.uniform(0.44, 0.54)),
        blurs=blurs,
    )


def render(anatomy: Anatomy, pixels: int, aspect: float, random: np.random.Generator) -> Picture:
    """Brightness [pixels · aspect, pixels] in [0, 1] of a person in a pose of its own."""
    x, y = _grid(pixels, aspect, anatomy, random)
    soft = 1.5 / pixels
    torso = _inside(0.93 - 0.64 * _inside(-0.80 - y, 0.30) - np.abs(x), 2 * soft)
    lungs = _lungs(x, y, anatomy, 2 * soft)
    picture = torso * (0.68 + 0.10 * _inside(y - 0.5, 0.15))
    picture -= 0.50 * lungs
    heart = ((x - 0.12) / anatomy.heart) ** 2 + ((y - 0.26 - 0.3 * x) / 0.27) ** 2
    picture += (0.80 - picture) * 0.9 * _inside(1 - heart, 0.25)
    picture += 0.10 * torso * np.exp(-((x / 0.09) ** 2)) * (0.8 + 0.2 * np.cos(anatomy.ribs * 1.5 * y))
    arcs = np.cos(anatomy.ribs * (y - 0.40 * np.abs(x) + 0.55 * x**2))
    picture += 0.11 * lungs * np.clip(arcs, 0, 1)
    clavicle = np.exp(-(((y + 0.62 - 0.20 * np.abs(x)) / 0.035) ** 2)) * _inside(0.7 - np.abs(x), 0.05)
    picture += 0.12 * torso * clavicle
    for bx, by, width, strength in anatomy.blurs:
        picture += strength * lungs * np.exp(-(((x - bx) ** 2 + (y - by) ** 2) / (2 * width**2)))
    return np.clip(picture, 0, 1)


def scan(picture: Picture, scanner: Scanner, random: np.random.Generator) -> Picture:
    """What a scanner makes of a picture, both in [0, 1]: contrast, sharpness, noise."""
    seen = picture**scanner.gamma
    if scanner.blur:
        offsets = np.arange(-3, 4)
        kernel = np.exp(-(offsets**2) / (2 * scanner.blur**2))
        for axis in (0, 1):
            shifted = [weight * _shift(seen, int(o), axis) for o, weight in zip(offsets, kernel, strict=True)]
            seen = np.sum(shifted, axis=0) / kernel.sum()
    return np.clip(seen + scanner.noise * random.standard_normal(seen.shape), 0, 1)


def _grid(
    pixels: int, aspect: float, anatomy: Anatomy, random: np.random.Generator
) -> tuple[Picture, Picture]:
    rows = round(pixels * aspect)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, pixels), indexing="ij")
    angle = anatomy.tilt + random.uniform(-0.03, 0.03)
    zoom = random.uniform(0.97, 1.03)
    x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return zoom * x + random.uniform(-0.04, 0.04), zoom * y + random.uniform(-0.04, 0.04)


def _lungs(x: Picture, y: Picture, anatomy: Anatomy, soft: float) -> Picture:
    taper = anatomy.lung_width * (1 + 0.30 * y)
    height = anatomy.lung_height
    lungs = np.zeros_like(x)
    for side in (-1, 1):
        center = side * (0.44 + 0.06 * y)
        shape = np.abs((x - center) / taper) ** 2.6 + np.abs((y + 0.08) / height) ** 2.6
        floor = anatomy.dome - 0.16 * (1 - ((x - center) / taper) ** 2) + (0.04 if side > 0 else 0)
        lungs += _inside(1 - shape, 0.18) * _inside(floor + 0.1 - y, soft)
    return np.clip(lungs, 0, 1)


def _inside(distance: Picture, soft: float) -> Picture:
    """0 outside (distance < 0), 1 inside, with an edge of width `soft`."""
    edge: Picture = 1 / (1 + np.exp(np.clip(-4 * distance / soft, -60, 60)))
    return edge


def _shift(picture: Picture, offset: int, axis: int) -> Picture:
    index = np.clip(np.arange(picture.shape[axis]) + offset, 0, picture.shape[axis] - 1)
    return np.take(picture, index, axis=axis)


def _dataset(
    picture: Picture, scanner: Scanner, own: Seeds, patient: str, number: int, image: int
) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    # not marked SyntheticData: these stand for acquired images, and ingest refuses synthetic ones
    dataset.SOPInstanceUID = _uid(own, "image", image)
    dataset.StudyInstanceUID = _uid(own, "study")
    dataset.SeriesInstanceUID = _uid(own, "series")
    dataset.FrameOfReferenceUID = _uid(own, "frame")
    dataset.PatientName = f"PHANTOM^{number:04d}"
    dataset.PatientID = patient
    dataset.PatientBirthDate, dataset.PatientSex, dataset.AccessionNumber = "", "O", ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20200101", "120000", str(number)
    dataset.ContentDate, dataset.ContentTime, dataset.AcquisitionNumber = "20200101", "120000", image
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber, dataset.InstanceNumber = 1, image
    dataset.Manufacturer, dataset.ManufacturerModelName = "MedGAN", "chest phantom"
    dataset.BodyPartExamined, dataset.Modality = "CHEST", scanner.modality
    _set_pixels(dataset, picture, scanner)
    (_set_ct if scanner.modality == "CT" else _set_dx)(dataset, picture, scanner)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _set_pixels(dataset: Dataset, picture: Picture, scanner: Scanner) -> None:
    bright = 1 - picture if scanner.photometric == "MONOCHROME1" else picture
    stored = np.round(bright * _largest(scanner)).astype("<u2")
    dataset.PixelData = stored.tobytes()
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = scanner.photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, scanner.bits, scanner.bits - 1
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"


def _set_ct(dataset: Dataset, picture: Picture, scanner: Scanner) -> None:
    """A coronal rendering in HU: stored values from 0 are -1024 upwards, so soft tissue is near 0."""
    dataset.SOPClassUID = CTImageStorage
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    spacing = 360 / picture.shape[1]
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 0.25, -1024, "HU"
    dataset.PixelData = np.round(picture * 1300 / 0.25).clip(0, _largest(scanner)).astype("<u2").tobytes()
    dataset.WindowCenter, dataset.WindowWidth = -600, 1500
    dataset.KVP, dataset.PatientPosition, dataset.SliceThickness = "120", "HFS", "5"
    dataset.PixelSpacing = [spacing, spacing]
    dataset.ImagePositionPatient = [-180, 0, 180]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    dataset.PositionReferenceIndicator = ""


def _set_dx(dataset: Dataset, picture: Picture, scanner: Scanner) -> None:
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PresentationIntentType, dataset.ImageLaterality = "FOR PRESENTATION", "U"
    dataset.PatientOrientation, dataset.ViewPosition = ["L", "F"], "PA"
    dataset.PositionerType, dataset.DetectorType = "NONE", "DIRECT"
    dataset.ImagerPixelSpacing = [360 / picture.shape[1]] * 2
    dark_on_bright = scanner.photometric == "MONOCHROME1"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if dark_on_bright else -1
    dataset.PresentationLUTShape = "INVERSE" if dark_on_bright else "IDENTITY"
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "US"
    dataset.WindowCenter, dataset.WindowWidth = (_largest(scanner) + 1) / 2, _largest(scanner) + 1
    dataset.AcquisitionContextSequence = []
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "43799004", "SCT", "Thorax"
    dataset.AnatomicRegionSequence = [region]


def _largest(scanner: Scanner) -> int:
    return int(2**scanner.bits - 1)


def _uid(own: Seeds, *names: object) -> str:
    text = "/".join(map(str, (own.child("uid", *names).integer(), *own.path, *names)))
    return f"2.25.{int.from_bytes(sha256(text.encode()).digest()[:16], 'big')}"
