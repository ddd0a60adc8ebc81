"""`medgan-client pull`: a site's cohort out of its archive, as [source] of site.toml says."""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from client.books import keep_heads, open_ledger
from client.choosing import read_labels, written
from client.diary import Diary
from client.folder import SiteFolder
from client.hospital import terms_of as reading_terms
from client.pulled import FORMAT, LOOKED_AT, PulledStore, no_mask
from client.site_file import SiteFile
from client.source_section import SourceSection
from medgan_core.data.dicom.stream import Stream
from medgan_core.data.dicom.terms import Terms as Reading
from medgan_core.data.pacs.credentials import NOBODY, Credentials
from medgan_core.data.pacs.dicomweb import DicomWeb
from medgan_core.data.pacs.dimse import Dimse, classes_of, tls_context
from medgan_core.data.pacs.finding import NO_LABEL, Found, Terms, find
from medgan_core.data.pacs.headers import quiet
from medgan_core.data.pacs.labels import Labels, SegmentLabels
from medgan_core.data.pacs.ledger import PullLedger
from medgan_core.data.pacs.pace import Pace
from medgan_core.data.pacs.pull import OTHER_PIXELS, Progress, Puller
from medgan_core.data.pacs.source import Source
from medgan_core.errors import ConfigError, SourceError


@dataclass(frozen=True)
class Pulled:
    """What a pull came to. `refused` counts objects by the word against them."""

    progress: Progress
    images: int
    patients: int
    refused: dict[str, int]


def pull_site(
    folder: SiteFolder,
    tell: Callable[[Progress], None],
    *,
    again: bool = False,
    afresh: bool = False,
    partial: bool = False,
) -> Pulled:
    """Pull what is not here yet, and put the set together that studies read.

    `again`: fetch and compare every object. `afresh`: forget all that was pulled. `partial`: be content with
    what came. SourceError where the archive does not answer, says no, or, without `partial`, gave a part
    alone: then the set stays what it was, and the next pull goes on.
    """
    config, section = folder.config(), folder.config().source
    if not section.pulled:
        raise ConfigError("source.kind", section.kind, "dicomweb or pacs: files in [data] need no pull")
    with open_ledger(folder, config) as book:
        pseudonym = book.pseudonym
    source, labels = open_source(folder, section), read_labels(folder, section)
    reading = reading_terms(folder, config, pseudonym)
    terms = terms_of(section, labels, pseudonym(f"terms\n{written(folder, section)}\n{_way(reading)}"))
    masks = labels.mask_of if isinstance(labels, SegmentLabels) else no_mask
    stream = Stream(LOOKED_AT, reading)
    store = PulledStore(folder.pulled, stream, labels.label_of, masks, reading.cache_key)
    store.make()
    with closing(source), stream, PullLedger(store.ledger) as ledger:
        if afresh:
            ledger.clear()
        puller = Puller(source, terms, store, ledger, pseudonym, Pace(section.rate), section.transfers, again)
        puller.tell = tell
        progress = puller.run()
        refused, kept = ledger.refused(), ledger.kept()
        refused += Counter({OTHER_PIXELS: progress.clashes})
        if progress.failed and not partial:
            raise _unfinished(progress)
        patients = store.assemble(kept)
    pulled = Pulled(progress, len(kept), patients, dict(sorted(refused.items())))
    _note(folder, config, pulled)
    return pulled


def look(folder: SiteFolder, config: SiteFile) -> Found:
    """What the archive says the cohort is; nothing is fetched. SourceError where it does not answer."""
    labels = read_labels(folder, config.source)
    with quiet(), closing(open_source(folder, config.source)) as source:
        return find(source, terms_of(config.source, labels, ""), (), lambda seconds: None)


def open_source(folder: SiteFolder, section: SourceSection) -> Source:
    """The archive; it is not asked anything yet. InputError for a file that is missing or too open."""
    ca = folder.path / section.ca if section.ca else None
    if section.kind == "dicomweb":
        secret = Credentials.read(folder.path / section.credentials) if section.credentials else NOBODY
        return DicomWeb(section.url, secret, ca, section.timeout)
    certificate = folder.path / section.certificate if section.certificate else None
    key = folder.path / section.key if section.key else None
    tls = tls_context(ca, certificate, key) if section.tls else None
    classes = classes_of(section.cohort, segmentations=section.label.kind == "seg")
    return Dimse(section.host, section.port, section.peer_title, section.title, classes, tls, section.timeout)


def terms_of(section: SourceSection, labels: Labels, digest: str) -> Terms:
    """Cohort and labels as the pull asks for them."""

    def unlabelled(header: Any) -> str | None:
        return NO_LABEL if labels.label_of(header) is None else None

    annotations = labels if isinstance(labels, SegmentLabels) else None
    return Terms(section.cohort, digest, unlabelled, labels.worth, annotations)


def _way(terms: Reading) -> str:
    """How objects are looked at and kept."""
    key = sha256(terms.cache_key).hexdigest() if terms.cache_key else ""
    return f"{FORMAT} {terms.text_check} {key}"


def _unfinished(progress: Progress) -> SourceError:
    return SourceError(
        f"{progress.failed} of {progress.series} series did not come whole ({progress.why}); the set is "
        "what it was: pull again, and it goes on, or give --partial to be content with what came"
    )


def _note(folder: SiteFolder, config: SiteFile, pulled: Pulled) -> None:
    """A line of the site's log: counts alone."""
    diary = Diary(folder.log)
    with open_ledger(folder, config, diary) as ledger:
        diary.add("pulled", series=pulled.progress.series, images=pulled.images, patients=pulled.patients)
        keep_heads(folder, ledger, diary)
