"""One DICOM dataset for each slice: who, where from, when, which pixels. highdicom makes its frame.

The attributes are those of PS3.3 for CT, MR, DX For Presentation and SC images; `modules` has what differs
between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from highdicom import ContributingEquipment, SOPClass
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian

from medgan_core.release.dicom.modules import SOP_CLASSES, add_image
from medgan_core.release.dicom.patients import Patient, Series, Study
from medgan_core.release.dicom.provenance import MAKER, Provenance
from medgan_core.release.dicom.uids import derived_uid, short_code

COMMENT = "SYNTHETIC IMAGE - NOT A REAL PATIENT - NOT FOR DIAGNOSIS"
_IMPLEMENTATION = UID(derived_uid("", 0, 0, "implementation"))


@dataclass(frozen=True)
class Names:
    """The identifiers of a series and of all above it; `instances` [n]."""

    patient: str
    study: str
    series: str
    frame: str
    instances: tuple[str, ...]


def patient_id(patient: Patient, provenance: Provenance) -> str:
    """The patient's identifier, as given or derived."""
    if patient.identifier:
        return patient.identifier
    first = patient.studies[0]
    facts = [study.facts() for study in patient.studies]
    uid = derived_uid(provenance.model, provenance.seed, first.series[0].index, "patient", *facts)
    return f"SYN-{short_code(uid)}"


def names_of(patient: Patient, study: Study, series: Series, provenance: Provenance) -> Names:
    """The identifiers as given, else derived from the model, the seed, the index and what is asked for."""

    def uid(index: int, *names: object) -> str:
        return derived_uid(provenance.model, provenance.seed, index, *names)

    first, facts = study.series[0].index, series.facts()
    return Names(
        patient=patient_id(patient, provenance),
        study=study.uid or uid(first, "study", study.facts()),
        series=series.uid or uid(series.index, "series", facts),
        frame=series.frame_uid or uid(series.index, "frame", facts),
        instances=series.instance_uids
        or tuple(uid(series.index + n, "instance", n, facts) for n in range(len(series.pixels))),
    )


def series_datasets(patient: Patient, study: Study, number: int, provenance: Provenance) -> Iterator[Dataset]:
    """The datasets of the series at position `number` (from 0) of a study, slice by slice."""
    series = study.series[number]
    names = names_of(patient, study, series, provenance)
    for position in range(len(series.pixels)):
        dataset = _frame(patient, study, number, position, names, provenance)
        _mark(dataset, series, position, provenance)
        add_image(dataset, series, position, names.frame)
        yield dataset


def moment_of(study: Study, provenance: Provenance) -> datetime:
    """When a study is said to have been taken, to the second."""
    return (study.taken or provenance.created).replace(microsecond=0)


def identify(dataset: Dataset, study: Study, provenance: Provenance) -> None:
    """Set what says who and when, and whose software wrote it: never the clock, never a real header."""
    moment = moment_of(study, provenance)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = date
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = time
    dataset.InstanceCreationDate = provenance.created.strftime("%Y%m%d")
    dataset.InstanceCreationTime = provenance.created.strftime("%H%M%S")
    dataset.StudyDescription = study.description or "Synthetic data"
    if study.age:
        dataset.PatientAge = study.age
    dataset.file_meta.ImplementationClassUID = _IMPLEMENTATION
    dataset.file_meta.ImplementationVersionName = MAKER.upper()


def mark(dataset: Dataset, provenance: Provenance, made: str) -> None:
    """Say that a dataset is synthetic, what made it, and what is promised. `made` ends the description."""
    dataset.SyntheticData = "YES"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = list(provenance.method())
    if provenance.mirrored:
        dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    dataset.ContributingEquipmentSequence = [
        ContributingEquipment(
            MAKER,
            codes.DCM.SynthesizingEquipment,
            manufacturer_model_name=f"generator of {provenance.study}"[:64],
            software_versions=provenance.version,
            device_serial_number=provenance.model,
            contribution_datetime=provenance.created.strftime("%Y%m%d%H%M%S+0000"),
            contribution_description=f"{provenance.description()}, {made}",
        )
    ]


def _frame(
    patient: Patient, study: Study, number: int, position: int, names: Names, provenance: Provenance
) -> Dataset:
    series = study.series[number]
    dataset = SOPClass(
        study_instance_uid=names.study,
        series_instance_uid=names.series,
        series_number=number + 1,
        sop_instance_uid=names.instances[position],
        sop_class_uid=SOP_CLASSES[series.modality],
        instance_number=position + 1,
        modality="OT" if series.modality == "SC" else series.modality,
        manufacturer=MAKER,
        manufacturer_model_name=f"generator of {provenance.study}"[:64],
        device_serial_number=provenance.model,
        software_versions=provenance.version,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        patient_id=names.patient,
        patient_name=patient.name or f"SYNTHETIC^{names.patient.removeprefix('SYN-')}"[:64],
        patient_birth_date=patient.birth_date or None,
        patient_sex=patient.sex,
        accession_number=study.accession,
        study_id=study.identifier or str(study.series[0].index)[:16],
        referring_physician_name="",
        series_description=series.description or series.label[:64] or None,
        specific_character_set="ISO_IR 192",
    )
    identify(dataset, study, provenance)
    return dataset


def _mark(dataset: Dataset, series: Series, position: int, provenance: Provenance) -> None:
    label = f" of class {series.label}" if series.label else ""
    made = f"image {series.index + position}{label}, slice {position + 1} of {len(series.pixels)}"
    mark(dataset, provenance, made[:200])
    dataset.ImageComments = COMMENT
    dataset.DerivationDescription = "Drawn by a generator from random numbers; no source image"
    if series.free_of_text or series.modality == "DX":  # DX has to say it
        dataset.BurnedInAnnotation = "NO"
    if series.free_of_faces:
        dataset.RecognizableVisualFeatures = "NO"
