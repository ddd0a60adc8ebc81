"""Real studies with their pixels kept: every header written anew, for use inside the hospital.

    <patient>/<study>/<series>/<instance>.dcm    keyed pseudonyms and identifiers, nothing of the old names
    anonymize.json  NOTICE.txt                   what was done, and how many files were refused and why

Before a file is written its new bytes are searched for all that identifies in the old ones; where anything is
found, the file is refused.
"""

import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset

from medgan_core.errors import DataError, InputError
from medgan_core.release.anonymize.admission import open_image
from medgan_core.release.anonymize.files import every_file
from medgan_core.release.anonymize.headers import Patient, clean_header
from medgan_core.release.anonymize.identifiers import PseudonymKey
from medgan_core.release.anonymize.marking import mark_deidentified, new_meta
from medgan_core.release.anonymize.outcome import check_folders, tell
from medgan_core.release.anonymize.pixels import at_risk, decode, put_pixels, without_text
from medgan_core.release.anonymize.silence import silence
from medgan_core.release.anonymize.table import EDITION
from medgan_core.release.leaks.search import Search
from medgan_core.release.leaks.values import sorted_out, values_of_dataset
from medgan_core.release.swap import swapped_in

NOTICE = (
    "REAL PIXELS, FOR USE INSIDE THE HOSPITAL ONLY",
    "The headers were de-identified (PS3.15 Basic Profile); the pixels are those of real patients.",
    "A face can be rebuilt from a head CT or MR, and text that no program read may still be in the pixels.",
    "Who has the key can tell whose a pseudonym is.",
)


@dataclass
class Outcome:
    """What became of a cohort: files written, patients, places blanked, refusals by reason."""

    written: int = 0
    blanked: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    patients: set[str] = field(default_factory=set)
    searched_series: dict[str, bool] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For the screen: counts and reasons."""
        told = [
            f"{self.written} images of {len(self.patients)} patients written, {self.blanked} places blanked"
        ]
        return told + [f"{count} refused: {reason}" for reason, count in self.refused.most_common()]


def keep_pixels(source: Path, out: Path, key: PseudonymKey) -> Outcome:
    """De-identify a folder into a new one, which appears at once and complete.

    Files that cannot be de-identified for sure are refused and counted. Raises InputError where a folder
    cannot be used, or no file could be de-identified.
    """
    check_folders(source, out)
    outcome = Outcome()
    try:
        with silence(), swapped_in(out) as part:
            for _, content in every_file(source):
                try:
                    _write(deidentified(open_image(content), key, outcome), part, outcome)
                except DataError as reason:
                    outcome.refused[str(reason)] += 1
            if not outcome.written:
                raise InputError("; ".join(["no file could be de-identified", *outcome.lines()[1:]]))
            tell(part, _record(outcome), NOTICE)
    except OSError as error:
        raise InputError(f"OUT {out.name}: {error.strerror}; choose another place") from error
    return outcome


def deidentified(dataset: Dataset, key: PseudonymKey, outcome: Outcome) -> Dataset:
    """A new data set with the image's pixels. Raises DataError where it cannot be sure."""
    issuer, identifier = (str(dataset.get(k) or "").strip() for k in ("IssuerOfPatientID", "PatientID"))
    patient = Patient.of(key, issuer, identifier)
    made = clean_header(dataset, patient)
    pixels = decode(dataset)
    searched, blanked = _to_search(dataset, outcome), 0
    if searched:
        pixels, blanked = without_text(pixels)
        outcome.searched_series[str(dataset.get("SeriesInstanceUID", ""))] = blanked > 0
    put_pixels(made, pixels)
    mark_deidentified(made, searched, blanked)
    new_meta(made)
    if leaves_behind(dataset, made):
        raise DataError("a value that identifies would have stayed in the header")
    outcome.blanked += blanked
    outcome.patients.add(patient.pseudonym)
    return made


def leaves_behind(dataset: Dataset, made: Dataset) -> bool:
    """Whether a new header holds any of the old file's values that identify."""
    wanted, _ = sorted_out(values_of_dataset(dataset))
    stream, header = io.BytesIO(), Dataset()
    header.update({tag: element for tag, element in made.items() if tag != 0x7FE00010})
    header.file_meta = made.file_meta
    header.save_as(stream, enforce_file_format=True)
    return bool(Search(wanted).find(stream.getvalue()))


def _to_search(dataset: Dataset, outcome: Outcome) -> bool:
    """All images of modalities at risk; of others the first of a series, and the rest if it had text."""
    return at_risk(dataset) or outcome.searched_series.get(str(dataset.get("SeriesInstanceUID", "")), True)


def _write(made: Dataset, folder: Path, outcome: Outcome) -> None:
    place = folder / str(made.PatientID) / _part(made, "StudyInstanceUID") / _part(made, "SeriesInstanceUID")
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{_part(made, 'SOPInstanceUID')}.dcm"
    if file.exists():
        raise DataError("an image whose identifier another one had already")
    made.save_as(file, enforce_file_format=True)
    outcome.written += 1


def _part(made: Dataset, keyword: str) -> str:
    return str(made.get(keyword) or "none")


def _record(outcome: Outcome) -> dict[str, object]:
    return {
        "pixels": "kept",
        "use": "inside the hospital only: the pixels are those of real patients",
        "rules": f"PS3.15 {EDITION} Basic Profile",
        "written": outcome.written,
        "patients": len(outcome.patients),
        "blanked": outcome.blanked,
        "refused": dict(outcome.refused),
    }
