"""A hospital's own images, read for a study: its labels become the study's classes, its patients are divided.

Whether a patient is held out, left out or withdrawn is a function of that patient alone. Where a set is not
published, the division is keyed by the ledger, so that nobody else can know who is on which side.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from client.choosing import rules_for_files
from client.folder import CLOSED, SiteFolder, replace_private
from client.policy import Facts
from client.pulled import current_objects
from client.site_file import SiteFile
from medgan_core.config import HELD_OUT_PERCENT, DataConfig, Study
from medgan_core.data.archives import READERS
from medgan_core.data.dicom.folder import read_dicom_folder
from medgan_core.data.dicom.objects import read_objects
from medgan_core.data.dicom.report_card import ReportCard
from medgan_core.data.dicom.terms import Terms
from medgan_core.data.pacs.headers import quiet
from medgan_core.data.places import locate
from medgan_core.data.records import Records
from medgan_core.data.source import Card, Site, SiteData, is_held_out
from medgan_core.errors import ConfigError, DataError, InputError, IntegrityError
from medgan_core.record import read_json

Pseudonym = Callable[[str], str]
_LEAST_KEY = 32


@dataclass(frozen=True, eq=False)
class Reading:
    """What was read for a study: the site, what its person may see of it, and of every DICOM file."""

    site: Site
    facts: Facts
    report: ReportCard | None = None


def read_site(folder: SiteFolder, config: SiteFile, study: Study, pseudonym: Pseudonym) -> Reading:
    """Read this hospital's images as the study asks for them.

    `pseudonym` is that of the ledger. DataError, naming file and row, for what cannot be read: text for the
    site's person alone.
    """
    data = as_here(folder, config, study.data)
    records = read_records(folder, config, data, pseudonym)
    if config.data.site and records.sites is None:
        raise ConfigError("site.toml: data.site", config.data.site, '"": the manifest has no column site')
    rows = _Rows(config, study, records, withdrawn_patients(folder), pseudonym)
    rows.left_out.update(left.reason for left in records.left_out if left.site in ("", config.data.site))
    kept = [(row, label) for row, label in enumerate(rows.labels()) if label is not None]
    if not kept:
        why = _shown(rows.left_out) or (records.report and records.report.summary()) or "the set is empty"
        raise DataError(f"site {config.name}: no image is left to train on: {why}")
    position: dict[str, int] = {}
    owner = [position.setdefault(records.patients[row], len(position)) for row, _ in kept]
    pooled = SiteData(
        card_of(config, study, records.unit),
        tuple(position),
        torch.tensor(owner, dtype=torch.int64),
        records.images[torch.tensor([row for row, _ in kept])],
        torch.tensor([label for _, label in kept], dtype=torch.int64),
    )
    held_out = _held_out(config, study, records, [row for row, _ in kept], owner, tuple(position), pseudonym)
    training = [i for i, held in enumerate(held_out) if not held]
    judging = [i for i, held in enumerate(held_out) if held]
    site = Site(config.name, pooled.of_patients(training), pooled.of_patients(judging))
    facts = Facts(
        patients=len(training),
        held_out=len(judging),
        images=len(kept),
        unit=records.unit,
        left_out=dict(sorted(rows.left_out.items())),
        missing=_missing(study, site),
    )
    return Reading(site, facts, records.report)


def read_records(folder: SiteFolder, config: SiteFile, data: DataConfig, pseudonym: Pseudonym) -> Records:
    """This site's images, DICOM by the terms of site.toml; the report on it is kept for its person."""
    terms = terms_of(folder, config, pseudonym)
    if config.source.pulled:
        return _reported(folder, read_objects(data, current_objects(folder.pulled, terms.cache_key), terms))
    place = locate(folder.path.resolve(), data.path)
    if data.kind != "dicom":
        return READERS[data.kind](data, place)
    chosen = rules_for_files(folder, config.source, place)
    with quiet():  # the rules look at values, of which a warning would quote some
        records = read_dicom_folder(
            data,
            place,
            terms,
            admit=chosen.admit,
            label_of=chosen.label_of,
            rules=chosen.digest,
        )
    return _reported(folder, records)


def _reported(folder: SiteFolder, records: Records) -> Records:
    """With the report on every file on disk, for the site's own person."""
    if records.report is not None:
        folder.cache.mkdir(mode=CLOSED, exist_ok=True)
        replace_private(folder.cache / "ingest.json", json.dumps(records.report.as_json(), indent=1).encode())
        replace_private(folder.cache / "quarantine.csv", records.report.quarantine_csv().encode())
    return records


def terms_of(folder: SiteFolder, config: SiteFile, pseudonym: Pseudonym) -> Terms:
    """How this site reads DICOM. A published set keeps its own keys of patients, which decide its split."""
    own, open_data = config.data, config.data.published or config.data.public
    return Terms(
        pseudonym=None if own.published else pseudonym,
        needs_patient=not open_data,
        text_check=own.text_check and not own.public,
        cache=folder.cache if own.cache else None,
        cache_key=_cache_key(folder, own.cache_key) if own.cache_key else None,
    )


def _cache_key(folder: SiteFolder, name: str) -> bytes:
    try:
        key = (folder.path / name).read_bytes()
    except OSError as error:
        raise InputError(
            f'data.cache_key: {Path(name).name}: {error.strerror}; make one, or set it to ""'
        ) from None
    if len(key) < _LEAST_KEY:
        raise ConfigError(
            "data.cache_key", Path(name).name, f"a file of {_LEAST_KEY} random bytes or more, not {len(key)}"
        )
    return key


def card_of(config: SiteFile, study: Study, unit: str = "patient") -> Card:
    """The public facts of this site's data: all of them declared by the study or in site.toml."""
    data = study.data
    return Card(
        name=study.name,
        classes=data.classes,
        image_shape=data.image_shape,
        modality=data.modality,
        unit="patient" if unit == "patient" else "image",
        public=config.data.public,
        channels=data.channel_names,
    )


def withdrawn_patients(folder: SiteFolder) -> frozenset[str]:
    """The pseudonyms of patients who withdrew. IntegrityError for a damaged file: nobody is forgotten."""
    if not folder.withdrawn.exists():
        return frozenset()
    found = read_json(folder.withdrawn)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise IntegrityError(f"{folder.withdrawn.name} is damaged: bring it back from a backup")
    return frozenset(found)


def held_out_by(pseudonym: Pseudonym, patient: str) -> bool:
    """Whether a patient of an unpublished set is held out: by the ledger's key and this patient alone.

    A pseudonym stands for its patient, so that cached images fall where those of the files would.
    """
    return int(pseudonym(f"held out\n{pseudonym(patient)}"), 16) % 100 < HELD_OUT_PERCENT


@dataclass(frozen=True)
class _Rows:
    """Which rows take part, and with which class; `left_out` counts the others by reason."""

    config: SiteFile
    study: Study
    records: Records
    withdrawn: frozenset[str]
    pseudonym: Pseudonym
    left_out: Counter[str] = field(default_factory=Counter)

    def labels(self) -> Iterator[int | None]:
        """Each row's class, None where it is left out."""
        position = {name: i for i, name in enumerate(self.study.data.classes)}
        gone = {name for name in set(self.records.patients) if self.pseudonym(name) in self.withdrawn}
        for row, label in enumerate(self.records.labels):
            reason = self._reason(row, gone)
            name = self._class(label)
            if not reason and name not in position:
                reason = f"label {label!r} is none of the study's classes"
            if reason:
                self.left_out[reason] += 1
            yield None if reason else position[name]

    def _reason(self, row: int, gone: set[str]) -> str:
        records, data = self.records, self.config.data
        if data.site and records.sites is not None and records.sites[row] != data.site:
            return "of another site"
        if records.named is not None and not records.named[row] and not (data.published or data.public):
            return "without a patient"
        return "consent withdrawn" if records.patients[row] in gone else ""

    def _class(self, label: str) -> str:
        """The study's name of a class, whatever this hospital calls it."""
        own, study = self.config.data.classes, self.study.data.classes
        number = int(label) if label.isascii() and label.isdigit() and len(label) < 10 else -1
        if 0 <= number < len(own):
            label = own[number]
        if self.config.labels:
            return self.config.labels.get(label, "")
        if not own and 0 <= number < len(study) and label not in study:
            return study[number]
        return label


def as_here(folder: SiteFolder, config: SiteFile, asked: DataConfig) -> DataConfig:
    """The study's images, from where they are in this hospital."""
    own = config.data
    if config.source.pulled:
        update = {"kind": "dicom", "path": folder.pulled.name, "patients": "", "labels": ""}
    else:
        update = {"kind": own.kind, "path": own.path, "patients": own.patients, "labels": own.labels}
        update |= {"masks": own.masks} if asked.masks and own.masks else {}
    try:
        return DataConfig.model_validate(asked.model_dump() | update)
    except ConfigError as error:
        name = f"{error.name} of the study, read here as {update['kind']}"
        raise ConfigError(name, error.value, error.expected) from None


def _held_out(
    config: SiteFile,
    study: Study,
    records: Records,
    rows: Sequence[int],
    owner: Sequence[int],
    patients: Sequence[str],
    pseudonym: Pseudonym,
) -> list[bool]:
    if study.data.hold_out and not config.data.published:
        raise ConfigError("data.hold_out", study.data.hold_out, "[]: this site's set is not a published one")
    if study.data.hold_out:
        return [patient in study.data.hold_out for patient in patients]
    if not config.data.published:
        return [held_out_by(pseudonym, patient) for patient in patients]
    if study.data.split == "hash":
        return [is_held_out(patient) for patient in patients]
    if records.official is None:
        raise ConfigError("data.split", "official", "hash: this site's set has no official split")
    held = [False] * len(patients)
    for row, patient in zip(rows, owner, strict=True):
        held[patient] |= records.official[row]
    return held


def _missing(study: Study, site: Site) -> tuple[str, ...]:
    present = set(site.training.labels.tolist())
    return tuple(name for i, name in enumerate(study.data.classes) if i not in present)


def _shown(left_out: Counter[str]) -> str:
    return "; ".join(f"{count} images: {reason}" for reason, count in sorted(left_out.items()))
