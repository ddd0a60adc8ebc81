"""Folders of images: class by class, or by a manifest; the images lie loose or in zips."""

import io
import re
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from medgan_core.config import DataConfig
from medgan_core.data.places import Place, inside, reading
from medgan_core.data.records import Records, Unit
from medgan_core.data.tables import LABEL_COLUMNS, PATIENT_COLUMNS, Table, read_table, reference
from medgan_core.data.transforms import SMALLEST, prepare_each
from medgan_core.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_THREADS = 2
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # names folders of a run


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


@dataclass(frozen=True)
class Store:
    """The files of a folder and of the zips in it, by name; nothing is ever unpacked to disk."""

    place: Place
    members: dict[str, list[tuple[zipfile.ZipFile, str]]]

    def names(self) -> Iterator[tuple[str, str]]:
        """Each image as (class folder, file name below it): the first folder, or the zip it lies bare in."""
        loose = self.place.path.rglob("*") if self.place.path.is_dir() else ()
        for path in sorted(p for p in loose if _is_image(p.relative_to(self.place.path).as_posix())):
            yield _split_class(path.relative_to(self.place.path).as_posix(), "", self.place.shown(path))
        for name, found in self.members.items():
            if _is_image(name):
                for archive, _ in found:
                    stem = Path(str(archive.filename)).stem
                    yield _split_class(name, stem, f"{self.place.shown()}/{name}")

    def read(self, name: str, where: str) -> tuple[bytes, Path]:
        """The bytes of a file and the file on disk they come from. Raises DataError that names the row."""
        if not inside(name):
            raise DataError(f"{where}: file {name!r} leaves the folder of the set")
        path = self.place.path / name
        with reading(f"{where}: {name}"):
            if self.place.path.is_dir() and path.is_file():
                if not path.resolve().is_relative_to(self.place.path.resolve()):
                    raise DataError(f"{where}: file {name!r} is a link that leaves the folder of the set")
                return path.read_bytes(), path
        found = self.members.get(name, [])
        if len(found) != 1:
            how = "is neither in the folder nor in its zips" if not found else "is in more than one zip"
            raise DataError(f"{where}: file {name} {how}")
        archive, member = found[0]
        source = Path(str(archive.filename))
        with reading(f"{where}: {name} in {self.place.shown(source)}"):
            return archive.read(member), source


def read_folder(data: DataConfig, place: Place) -> Records:
    """All images of a folder, as its manifest or its class folders say."""
    with ExitStack() as stack:
        store = open_store(place, stack)
        listing = list_rows(data, place, store)
        files: list[Path] = []

        def decoded() -> Iterator[NDArray[np.uint8]]:
            with ThreadPoolExecutor(_THREADS) as pool:
                for pixels, path in pool.map(lambda row: _decode(store, row, data), listing.rows):
                    files.append(path)
                    yield pixels

        images = prepare_each(decoded(), len(listing.rows), data, (0, 255))
    patients = tuple(row.key for row in listing.rows)
    return listing.records(images, patients, tuple(files))


def open_store(place: Place, stack: ExitStack) -> Store:
    """Open a folder with its zips, or one zip, until the stack closes."""
    zips = sorted(place.path.glob("*.zip")) if place.path.is_dir() else [place.path]
    members: dict[str, list[tuple[zipfile.ZipFile, str]]] = {}
    for path in zips:
        with reading(place.shown(path)):
            archive = stack.enter_context(zipfile.ZipFile(path))
            for info in archive.infolist():
                if not info.is_dir():
                    members.setdefault(info.filename, []).append((archive, info.filename))
    return Store(place, members)


def list_rows(data: DataConfig, place: Place, store: Store) -> Listing:
    """The rows of the manifest that the study or the folder names, else one row for each file of a class."""
    file, _ = reference(data.patients or data.labels)
    default = place.folder / "manifest.csv"
    if file:
        return _by_manifest(data, place, read_table(place, place.beside(file)))
    if default.is_file() and place.path.is_dir():
        return _by_manifest(data, place, read_table(place, default))
    return _by_class(place, store)


def _by_class(place: Place, store: Store) -> Listing:
    rows: dict[str, Row] = {}
    for label, name in store.names():
        key = f"{label}/{name}"
        if key in rows:
            raise DataError(f"{place.shown()}: two images are called {key}")
        file = key if key in store.members or (place.path / key).is_file() else name
        rows[key] = Row(file, label, key, "", False, f"{place.shown()}/{key}")
    if not rows:
        raise DataError(f"{place.shown()} holds no images; expected one folder or zip for each class")
    return Listing(tuple(rows[key] for key in sorted(rows)), (), "image", False, False)


def _by_manifest(data: DataConfig, place: Place, table: Table) -> Listing:
    files = table.distinct("file")
    labels, label_table = _labels(data, place, table, files)
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
        return tuple(PurePosixPath(name).parts[0] for name in files), table
    return table.column(*named), table


def _decode(store: Store, row: Row, data: DataConfig) -> tuple[NDArray[np.uint8], Path]:
    raw, path = store.read(row.file, row.where)
    try:
        return decode_image(raw, data), path
    except DataError as error:
        raise DataError(f"{row.where}: {row.file} {error}") from error


def decode_image(raw: bytes, data: DataConfig) -> NDArray[np.uint8]:
    """A PNG, JPEG, BMP or TIFF as uint8 [h, w] or [h, w, 3], as the study's channels say."""
    mode = "L" if data.channels == 1 else "RGB"
    try:
        with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
            if getattr(image, "n_frames", 1) != 1:
                raise DataError("has more than one frame; expected a single image")
            if min(image.size) < SMALLEST:
                raise DataError(
                    f"is of {image.height}×{image.width} pixels; expected at least {SMALLEST}×{SMALLEST}"
                )
            if min(image.size) >= data.image_size:
                image.draft(mode, (data.image_size, data.image_size))
            return _to_bytes(image, mode)
    except (OSError, EOFError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError("cannot be decoded; expected a PNG, JPEG, BMP or TIFF that is not damaged") from error


def _to_bytes(image: Image.Image, mode: str) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip instead of scale
        deep = np.asarray(image, dtype=np.float32)
        grey = np.clip(deep / 257, 0, 255).round().astype(np.uint8)
        return grey if mode == "L" else np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise DataError("has floating-point pixels; expected 8 or 16 bits")
    return np.asarray(image.convert(mode))


def _is_image(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return name.lower().endswith(SUFFIXES) and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _split_class(name: str, default: str, where: str) -> tuple[str, str]:
    first, separator, rest = name.partition("/")
    if separator:
        return first, rest
    if not default:
        raise DataError(
            f"{where} is in no class folder; expected one folder for each class, or a manifest.csv"
        )
    return default, name
