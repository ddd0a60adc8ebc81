"""A few synthetic images as DICOM beside a release, so that whoever receives it can try its own programs.

They are what `medgan generate --format dicom` draws with the same seed. Identifiers follow from the hash of
the model and dates from the manifest, so that `verify` makes them again and finds one that was touched.
"""

import math
import shutil
import subprocess
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from medgan_core.errors import InputError, ReleaseError
from medgan_core.release.bundle import Release
from medgan_core.release.dicom.datasets import COMMENT, series_datasets
from medgan_core.release.dicom.drawing import Asked, modality_of, patients
from medgan_core.release.dicom.modules import TWELVE_BITS
from medgan_core.release.dicom.provenance import Provenance
from medgan_core.release.purposes import command_of

SAMPLES, SEED = 4, 0
_PROGRAM, _SECONDS = "dciodvfy", 30
_UNKNOWN_TO_IT = "0x0008,0x001c"
"""SyntheticData, for which Debian's dicom3tools are too old."""
_GREY_LEVELS = 255
_PIXELS = "PixelData"
_PROMISED = {"SyntheticData": "YES", "PatientIdentityRemoved": "YES", "ImageComments": COMMENT}


def sample_files(release: Release) -> dict[str, bytes]:
    """The files by name, `samples/0000.dcm` and so on.

    Empty where DICOM would be refused or a lie: without privacy, for a network that draws no images by
    itself, and for one whose channels are no colours.
    """
    return {f"samples/{number:04d}.dcm": _bytes(one) for number, one in enumerate(_datasets(release))}


def check_samples(release: Release, files: Mapping[str, bytes], *, same_version: bool) -> tuple[str, ...]:
    """Lines on the sample files of a release. ReleaseError names the first that is not what it must be.

    Another version of MedGAN writes other headers, so of its files only identifiers, promises and pixels are
    compared. Pixels may be one grey level apart: machines round differently.
    """
    expected = _datasets(release)
    names = sorted(name for name in files if name.startswith("samples/"))
    if len(names) != len(expected):
        raise ReleaseError(f"samples/: {len(names)} files, expected {len(expected)} of this release")
    for name, made in zip(names, expected, strict=True):
        _check(name, _read(name, files[name]), _read(name, _bytes(made)), same_version)
    if not names:
        return ()
    judged = _judged(release.folder, names)
    return (f"samples/: {len(names)} DICOM files are what the generator draws with seed {SEED}; {judged}",)


def _datasets(release: Release) -> list[Dataset]:
    if not release.card.private or command_of(release.facts.task) != "generate":
        return []
    try:
        modality = modality_of(release, None)
    except InputError:
        return []
    images, labels = release.sample(SAMPLES, SEED)
    provenance, made = Provenance.of(release, SEED), []
    for patient in patients(images, labels, release, modality, Asked()):
        for dataset in series_datasets(patient, patient.studies[0], 0, provenance):
            if modality != "DX":  # which has to name one; nobody said here which part it is
                del dataset.BodyPartExamined
                dataset.Laterality = ""  # it may be one of a pair (PS3.3 C.7.3.1)
            made.append(dataset)
    return made


def _bytes(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _read(name: str, body: bytes) -> Dataset:
    try:
        read = dcmread(BytesIO(body))
        read.decode()
        return read
    except (InvalidDicomError, OSError, ValueError, AttributeError, EOFError, NotImplementedError) as error:
        raise ReleaseError(f"{name} is no DICOM file: {error.__class__.__name__}") from error


def _check(name: str, found: Dataset, made: Dataset, same_version: bool) -> None:
    for keyword, promised in _PROMISED.items():
        if str(found.get(keyword, "")) != promised:
            raise ReleaseError(f"{name}: {keyword} is not {promised!r}, which every synthetic file says")
    tags = {*found.keys(), *made.keys()} if same_version else {made["SOPInstanceUID"].tag}
    wrong = [tag for tag in sorted(tags) if found.get(tag) != made.get(tag) and tag != made[_PIXELS].tag]
    if wrong or (same_version and found.file_meta != made.file_meta):
        which = made.get(wrong[0]) or found.get(wrong[0]) if wrong else None
        what = which.keyword or str(which.tag) if which is not None else "the file's head"
        raise ReleaseError(f"{name}: {what} is not what this release writes")
    if not _alike(found, made):
        raise ReleaseError(f"{name}: its pixels are not what the generator draws with seed {SEED}")


def _alike(found: Dataset, made: Dataset) -> bool:
    """Whether pixels agree to one of 256 grey levels."""
    try:
        a, b = (dataset.pixel_array.astype(np.int64) for dataset in (found, made))
    except (ValueError, AttributeError, NotImplementedError, RuntimeError):
        return False
    steps = {"CT": float(made.get("WindowWidth", _GREY_LEVELS)), "OT": _GREY_LEVELS}
    step = math.ceil(steps.get(made.Modality, TWELVE_BITS) / _GREY_LEVELS)
    return a.shape == b.shape and int(np.abs(a - b).max()) <= step


def _judged(folder: Path, names: list[str]) -> str:
    """What the program says that judges DICOM files. ReleaseError for what it calls an error."""
    if shutil.which(_PROGRAM) is None:
        return f"{_PROGRAM} is not installed and was not asked"
    for name in names:
        try:
            done = subprocess.run(
                [_PROGRAM, str(folder / name)], check=False, capture_output=True, timeout=_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{_PROGRAM} did not answer ({error.__class__.__name__})"
        lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
        errors = [line.strip() for line in lines if "Error" in line and _UNKNOWN_TO_IT not in line]
        if errors:
            raise ReleaseError(f"{name}: {_PROGRAM} says: {errors[0]}")
    return f"{_PROGRAM} finds no error"
