"""What a set's manifest, or its class folders, say of its images before any file is opened."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor

from medgan_core.config import DataConfig
from medgan_core.data.places import Place
from medgan_core.data.records import Records, Unit
from medgan_core.data.store import Store
from medgan_core.data.tables import LABEL_COLUMNS, PATIENT_COLUMNS, Table, read_table, reference
from medgan_core.errors import DataError

_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # names folders of a run
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


@dataclass(frozen=True)
class Row:
    """One image of a set: what its row says, before any file is opened. `patient` may be blank."""

    file: str
    label: str
    patient: str
    site: str
    held_out: bool
    where: str

    @property
    def key(self) -> str:
        """The patient, else a key of the image alone: its class and its file."""
        prefix = f"{self.label}/"
        return self.patient or (self.file if self.file.startswith(prefix) else prefix + self.file)


@dataclass(frozen=True)
class Listing:
    """The rows of a set, the tables they come from, and which columns these have."""

    rows: tuple[Row, ...]
    tables: tuple[Path, ...]
    unit: Unit
    has_sites: bool
    has_split: bool

    def records(
        self, images: Tensor, patients: tuple[str, ...], files: tuple[Path, ...], unit: Unit | None = None
    ) -> Records:
        """The set with its images [n, c, s, s] and a key for each."""
        rows = self.rows
        return Records(
            images=images,
            labels=tuple(row.label for row in rows),
            patients=patients,
            unit=unit or self.unit,
            where=lambda i: rows[i].where,
            files=tuple(dict.fromkeys((*self.tables, *files))),
            official=tuple(row.held_out for row in rows) if self.has_split else None,
            sites=tuple(row.site for row in rows) if self.has_sites else None,
            named=tuple(bool(row.patient) for row in rows)
            if unit is None and self.unit == "patient"
            else None,
        )


def list_rows(data: DataConfig, place: Place, store: Store, *, labelled: bool = True) -> Listing:
    """The rows of the manifest that the study or the folder names, else one row for each file of a class.

    Unless `labelled` is asked for, a manifest may do without labels.
    """
    file, _ = reference(data.patients or data.labels)
    default = place.folder / "manifest.csv"
    if file:
        return _by_manifest(data, place, read_table(place, place.beside(file)), labelled)
    if default.is_file() and place.path.is_dir():
        return _by_manifest(data, place, read_table(place, default), labelled)
    return _by_class(data, place, store)


def _by_class(data: DataConfig, place: Place, store: Store) -> Listing:
    rows: dict[str, Row] = {}
    for label, name in store.names():
        key = f"{label}/{name}"
        if key in rows:
            raise DataError(f"{place.shown()}: two images are called {key}")
        file = key if key in store.members or (place.path / key).is_file() else name
        rows[key] = Row(file, label, key, "", False, f"{place.shown()}/{key}")
    if not rows:
        raise DataError(f"{place.shown()} holds no images; expected one folder or zip for each class")
    _check_classes(data, place.shown(), rows)
    return Listing(tuple(rows[key] for key in sorted(rows)), (), "image", False, False)


def _check_classes(data: DataConfig, where: str, names: Iterable[str]) -> None:
    """Refuse the parts of a split in the place of classes, unless the study calls its classes so."""
    paths = [PurePosixPath(name).parts for name in names]
    tops = sorted({parts[0] for parts in paths})
    deep = any(len(parts) > 2 for parts in paths)
    if deep and _PARTS.issuperset(map(str.lower, tops)) and not set(tops) <= set(data.classes):
        raise DataError(
            f"{where}: its first folders are {', '.join(tops)}, parts of a split and no classes; "
            "expected one folder for each class, or a manifest.csv with the columns file, label and split"
        )


def _by_manifest(data: DataConfig, place: Place, table: Table, labelled: bool) -> Listing:
    files = table.distinct("file")
    labels, label_table = _labels(data, place, table, files) if labelled else (("",) * len(files), table)
    patients, unit = _patients(data, table)
    sites = table.column("site") if "site" in table.columns else None
    split = table.column("split") if "split" in table.columns else None
    rows = []
    for i, (file, label, patient) in enumerate(zip(files, labels, patients, strict=True)):
        where = table.where(i)
        if sites and not _SITE.fullmatch(sites[i]):
            raise DataError(f"{where}: site {sites[i]!r}; expected letters, digits and ._- (64 at most)")
        rows.append(
            Row(file, label, patient, sites[i] if sites else "", bool(split and split[i] == "test"), where)
        )
    tables = tuple(dict.fromkeys((table.path, label_table.path)))
    return Listing(tuple(rows), tables, unit, sites is not None, split is not None)


def _patients(data: DataConfig, table: Table) -> tuple[tuple[str, ...], Unit]:
    _, column = reference(data.patients)
    if data.patients or any(name in table.columns for name in PATIENT_COLUMNS):
        return table.column(*((column,) if column else PATIENT_COLUMNS)), "patient"
    return ("",) * len(table), "image"


def _labels(
    data: DataConfig, place: Place, table: Table, files: tuple[str, ...]
) -> tuple[tuple[str, ...], Table]:
    file, column = reference(data.labels)
    named = (column,) if column else LABEL_COLUMNS
    other = read_table(place, place.beside(file)) if file else table
    if other.path != table.path:
        label_of = dict(zip(other.distinct("file"), other.column(*named), strict=True))
        for row, name in enumerate(files):
            if name not in label_of:
                raise DataError(f"{table.where(row)}: file {name} has no label in {other.name}")
        return tuple(label_of[name] for name in files), other
    unlabelled = not data.labels and "label" not in table.columns
    if unlabelled and data.kind == "folder" and all("/" in name for name in files):
        _check_classes(data, table.name, files)
        return tuple(PurePosixPath(name).parts[0] for name in files), table
    return table.column(*named), table
