"""A folder of synthetic studies: Study → Series → instances, a DICOMDIR, and labels.csv.

This is the door for whoever writes synthetic DICOM: build each `Patient` of `Study` of `Series`, and hand
them to `write_studies` with the `Provenance` of their pixels.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from medgan_core.errors import InputError
from medgan_core.release.dicom.datasets import series_datasets
from medgan_core.release.dicom.geometry import Geometry, stack
from medgan_core.release.dicom.patients import Masks, Patient, Segment, Series, Study
from medgan_core.release.dicom.provenance import Provenance
from medgan_core.release.dicom.segmentation import write_segmentation
from medgan_core.release.dicom.uids import derived_uid
from medgan_core.release.dicom.volumes import Entry, Shelf, replaceable
from medgan_core.release.swap import swapped_in

__all__ = [
    "Geometry",
    "Masks",
    "Patient",
    "Provenance",
    "Segment",
    "Series",
    "Study",
    "stack",
    "write_studies",
]


def write_studies(out: Path, patients: Iterable[Patient], provenance: Provenance) -> int:
    """Write all studies of these patients to the folder `out`; how many files. Parents are created.

    The same arguments give the same bytes. Patients may come from a generator: one is held at a time. The
    folder appears at once and complete; an earlier one of the same kind is replaced. Raises InputError where
    `out` holds anything else or cannot be written; what was there is then untouched.
    """
    if out.exists() and not replaceable(out):
        raise InputError(f"--out {out.name} exists and is no earlier export: choose an empty or a new folder")
    uid = derived_uid(provenance.model, provenance.seed, 0, "file-set")
    try:
        with swapped_in(out) as part:
            written = Shelf(part, uid).fill(_entries(patient, provenance) for patient in patients)
            if not written:
                raise InputError("no patient: expected one or more")
            return written
    except OSError as error:
        raise InputError(f"--out {out.name}: {error.strerror}; choose another place") from error


def _entries(patient: Patient, provenance: Provenance) -> Iterator[Entry]:
    for study in patient.studies:
        for number, series in enumerate(study.series):
            slices = []
            for position, dataset in enumerate(series_datasets(patient, study, number, provenance)):
                if series.masks is not None:
                    slices.append(dataset)
                yield Entry(dataset, series.index + position, series.label)
            if series.masks is not None:
                segmented = write_segmentation(slices, series.masks, study, number, provenance)
                yield Entry(segmented, series.index, series.label)
