"""A synthetic cohort in the place of a real one: every pixel from a released generator, every header new.

studies/                     whole studies with their DICOMDIR and labels.csv
anonymize.json  NOTICE.txt   how it was made, and what it may be used for
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan_core.errors import InputError
from medgan_core.release.anonymize.identifiers import PseudonymKey
from medgan_core.release.anonymize.mirror import Mirror, mirrored, modalities_of
from medgan_core.release.anonymize.outcome import STUDIES, check_folders, tell
from medgan_core.release.anonymize.structure import PatientPlan, SeriesPlan, drawn
from medgan_core.release.bundle import Release
from medgan_core.release.dicom.drawing import FIELD, THICKNESS, modality_of, window_of
from medgan_core.release.dicom.geometry import Geometry, stack
from medgan_core.release.dicom.patients import Modality, Patient, Series, Study
from medgan_core.release.dicom.provenance import Provenance
from medgan_core.release.dicom.studies import write_studies
from medgan_core.release.swap import swapped_in

_LOOKED_AT = 500


@dataclass(frozen=True)
class Replaced:
    """A written cohort in numbers, and what a person must know of it."""

    patients: int
    images: int
    seed: int
    notice: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def draw_cohort(
    source: Path, out: Path, release: Release, key: PseudonymKey | None, patients: int | None
) -> Replaced:
    """A cohort whose structure is drawn from the release. `patients` None is the nominal size of a site.

    Of `source` nothing goes into the files: it is looked at to warn where its modality is another one.
    Raises RefusedError where the release is NOT PRIVATE, InputError where a folder cannot be used.
    """
    check_folders(source, out)
    seed = _seed(release, key)
    provenance = Provenance.of(release, seed)
    modality = modality_of(release, None)
    asked = release.study.sites.nominal_patients if patients is None else patients
    plans = drawn(release, asked, seed)
    named = "as was asked for" if patients is not None else "the public nominal size of a site of the study"
    notice = (
        f"SYNTHETIC {modality}: every pixel is of the generator of {release.card.study}, no header is real.",
        f"{len(plans)} patients, {named}; studies and classes are drawn from the release's noisy shares.",
        "Nothing of IN is in these files: all of them are covered by "
        f"epsilon {provenance.epsilon:.4g} at delta {provenance.delta:g} for each {provenance.unit}.",
    )
    images = _write(out, plans, release, provenance, modality, notice, {"structure": "counts"})
    return Replaced(len(plans), images, seed, notice, _other_modality(source, modality))


def mirror_cohort(source: Path, out: Path, release: Release, key: PseudonymKey) -> tuple[Replaced, Mirror]:
    """A cohort with the structure, labels and intervals of a real one, for internal use: it is NOT DP.

    Raises RefusedError where the release is NOT PRIVATE, InputError where a folder cannot be used or holds
    no image of the release's modality.
    """
    check_folders(source, out)
    seed = _seed(release, key)
    provenance = Provenance.of(release, seed, mirrored=True)
    modality = modality_of(release, None)
    mirror = mirrored(source, release, modality, key, seed)
    series = sum(len(study.series) for plan in mirror.patients for study in plan.studies)
    notice = (
        "NOT DP, FOR INTERNAL USE ONLY: the structure is that of real patients, who can be linked by it.",
        f"SYNTHETIC {modality}: every pixel is of the generator of {release.card.study}, with "
        f"epsilon {provenance.epsilon:.4g} at delta {provenance.delta:g} for each {provenance.unit}.",
        "Patients, studies, series, slices, planes and the intervals between studies are real; "
        "dates moved by one secret distance a patient.",
        f"Labels of {mirror.labelled} of {series} series are real, the others drawn from the noisy shares.",
    )
    images = _write(out, mirror.patients, release, provenance, modality, notice, {"structure": "mirror"})
    return Replaced(len(mirror.patients), images, seed, notice), mirror


def _seed(release: Release, key: PseudonymKey | None) -> int:
    """The same key and release give the same images; without a key they are fresh."""
    if key is None:
        return secrets.randbits(63)
    return key.number("images", release.card.generator_sha256) >> 1


def _write(
    out: Path,
    plans: Sequence[PatientPlan],
    release: Release,
    provenance: Provenance,
    modality: Modality,
    notice: tuple[str, ...],
    record: dict[str, object],
) -> int:
    wanted = [(s.label, s.slices) for plan in plans for study in plan.studies for s in study.series]
    labels = np.repeat(*np.array(wanted, np.int64).T)
    pixels, _ = release.sample(labels, provenance.seed)
    try:
        with swapped_in(out) as part:
            patients = _patients(plans, pixels, release, modality)
            images = write_studies(part / STUDIES, patients, provenance)
            facts = {"pixels": "replaced", **record, "seed": provenance.seed, "patients": len(plans)}
            tell(part, {**facts, "images": images, "notice": list(notice)}, notice)
    except OSError as error:
        raise InputError(f"OUT {out.name}: {error.strerror}; choose another place") from error
    return images


def _patients(
    plans: Sequence[PatientPlan], pixels: NDArray[np.uint8], release: Release, modality: Modality
) -> Iterator[Patient]:
    index = 0
    for plan in plans:
        studies = []
        for study in plan.studies:
            series = []
            for one in study.series:
                series.append(_series(one, pixels[index : index + one.slices], index, release, modality))
                index += one.slices
            studies.append(Study(tuple(series), taken=study.taken))
        yield Patient(tuple(studies), identifier=plan.identifier)


def _series(
    plan: SeriesPlan, pixels: NDArray[np.uint8], index: int, release: Release, modality: Modality
) -> Series:
    return Series(
        modality=modality,
        pixels=pixels,
        index=index,
        geometry=_geometry(plan, pixels, modality),
        label=release.facts.classes[plan.label],
        window=window_of(release, modality),
        body_part="HEAD" if modality == "MR" else "CHEST",
    )


def _geometry(plan: SeriesPlan, pixels: NDArray[np.uint8], modality: Modality) -> Geometry | None:
    if modality == "SC":
        return None
    rows, columns = pixels.shape[1:3]
    step = round(FIELD[modality] / columns, 6)
    if modality == "DX":
        return Geometry((step, step), THICKNESS)
    return stack(plan.slices, rows, columns, (step, step), THICKNESS, orientation=plan.plane)


def _other_modality(source: Path, modality: Modality) -> tuple[str, ...]:
    """A warning for the screen alone, of the first files."""
    try:
        others = modalities_of(source, _LOOKED_AT) - {modality}
    except InputError:
        return ("IN could not be looked at; nothing of it is in the files anyway",)
    if not others:
        return ()
    return (
        f"IN holds {', '.join(sorted(others))} too, for which this release has no generator: none was made",
    )
