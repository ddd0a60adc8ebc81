"""A folder of DICOM files, of any depth and with zips in it, and its manifest: `Records`, cached if asked."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from medgan_core.config import DataConfig
from medgan_core.data.catalog import missing
from medgan_core.data.dicom.cache import Cache, identity
from medgan_core.data.dicom.ingest import Rule, ingest
from medgan_core.data.dicom.sources import Member, Source, file_of, find
from medgan_core.data.dicom.terms import PUBLISHED, Ingested, Terms
from medgan_core.data.listing import Listing, Row, list_rows
from medgan_core.data.places import Place
from medgan_core.data.records import LABEL, Records
from medgan_core.data.store import open_store
from medgan_core.errors import DataError

STRICT = Terms(strict=True)

Entry = tuple[str, Source]


def read_dicom_folder(
    data: DataConfig,
    place: Place,
    terms: Terms = STRICT,
    *,
    admit: Rule | None = None,
    label_of: Rule | None = None,
    rules: str = "",
) -> Records:
    """The files that a manifest lists, else with `label_of` all that there are.

    A row without a patient takes the file's own. `admit` and `label_of` are those of `ingest`; the latter
    goes before the manifest's labels. `rules` names what they do, for the cache. Raises DataError where there
    is neither a manifest nor `label_of`.
    """
    with ExitStack() as stack:
        listing, entries = _listed(data, place, stack, label_of)
    rows = {row.file: row for row in listing.rows} if listing else {}
    patients = {name: row.patient for name, row in rows.items() if row.patient}
    found = cached_ingest(entries, data, terms, patients, rules, admit, label_of)
    by_key = {terms.file(name): name for name, _ in entries}
    names = [by_key[key] for key in found.files]
    if not names and terms.strict:
        raise DataError(f"{place.shown()} holds no DICOM image that can be read")
    files = (*(listing.tables if listing else ()), *_on_disk(entries))
    return _records(found, [rows.get(name) for name in names], listing, place, files)


def read_volumes(data: DataConfig, place: Place) -> Records:
    """The volumes of a published folder or zip, which needs no manifest where all are of one class.

    Without one, files that are no slices of a volume are left out. Raises DataError where no volume is left.
    """
    if data.patients or data.labels or _manifest(place) or len(data.classes) > 1:
        return read_dicom_folder(data, place)
    label = data.classes[0] if data.classes else LABEL
    records = read_dicom_folder(data, place, PUBLISHED, label_of=lambda _: label)
    if not records.labels:
        why = records.report.summary() if records.report else ""
        raise DataError(f"{place.shown()} holds no volume that can be read: {why or 'no files'}")
    return records


def _manifest(place: Place) -> bool:
    return place.path.is_dir() and (place.path / "manifest.csv").is_file()


def _listed(
    data: DataConfig, place: Place, stack: ExitStack, label_of: Rule | None
) -> tuple[Listing | None, list[Entry]]:
    if data.patients or data.labels or _manifest(place):
        store = open_store(place, stack)
        listing = list_rows(data, place, store, labelled=label_of is None)
        return listing, [(row.file, _source(*store.locate(row.file, row.where))) for row in listing.rows]
    if label_of is None:
        raise missing(place.shown(place.folder / "manifest.csv"))
    return None, list(find(place.path))


def _source(path: Path, member: str) -> Source:
    return Member(path, member) if member else path


def cached_ingest(
    entries: Sequence[Entry],
    data: DataConfig,
    terms: Terms,
    patients: Mapping[str, str],
    rules: str = "",
    admit: Rule | None = None,
    label_of: Rule | None = None,
) -> Ingested:
    """As `ingest`; from the cache where it has the same files and settings."""
    if terms.cache is None or terms.pseudonym is None:
        return ingest(entries, data, terms, admit=admit, label_of=label_of, patient_of=patients)
    cache = Cache(terms.cache, terms.cache_key)
    name = identity(((n, source, patients.get(n, "")) for n, source in entries), data, terms, rules)
    found = cache.load(name)
    if found is None:
        found = ingest(entries, data, terms, admit=admit, label_of=label_of, patient_of=patients)
        cache.keep(name, found)
    return found


def _on_disk(entries: Sequence[Entry]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(path for _, source in entries if (path := file_of(source))))


def _records(
    found: Ingested,
    rows: Sequence[Row | None],
    listing: Listing | None,
    place: Place,
    files: tuple[Path, ...],
) -> Records:
    known = [row for row in rows if row]
    return Records(
        images=found.images,
        labels=tuple(
            label or (row.label if row else "") for row, label in zip(rows, found.labels, strict=True)
        ),
        patients=found.patients,
        unit="patient",
        where=lambda i: _where(rows[i], found.files[i], place),
        files=files,
        official=tuple(row.held_out for row in known) if listing and listing.has_split else None,
        sites=tuple(row.site for row in known) if listing and listing.has_sites else None,
        named=None if all(found.named) else found.named,
        report=found.report,
    )


def _where(row: Row | None, key: str, place: Place) -> str:
    return row.where if row else f"{place.shown()}, file {key[:12]}"
