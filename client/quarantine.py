"""Which files were refused at the last reading, and which file of this site a keyed hash stands for.

The list has no name; a name is looked for on demand, by hashing those of all files again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from client.books import open_ledger
from client.folder import SiteFolder
from client.hospital import terms_of
from medgan_core.data.dicom.reasons import REFUSED, Refusal
from medgan_core.data.dicom.report_card import ReportCard
from medgan_core.data.dicom.sources import Member, Source, file_of, find
from medgan_core.data.places import locate
from medgan_core.errors import InputError, IntegrityError
from medgan_core.record import read_json

LEAST = 8


@dataclass(frozen=True)
class Refused:
    """A file that was refused: the keyed hash of its name, and why."""

    key: str
    reason: str

    @property
    def why(self) -> str:
        """The reason in words."""
        return REFUSED[Refusal(self.reason)][0]


def quarantine(folder: SiteFolder) -> list[Refused]:
    """All that were refused, by reason. InputError where nothing was read yet, IntegrityError for damage."""
    path = folder.cache / "ingest.json"
    if not path.is_file():
        raise InputError("no DICOM was read yet: run medgan-client check")
    try:
        entries = ReportCard.of_json(read_json(path)).quarantine
        return sorted((Refused(*entry) for entry in entries), key=lambda found: (found.reason, found.key))
    except (TypeError, ValueError, KeyError, AttributeError):
        raise IntegrityError(f"{path.name} is damaged: medgan-client check makes it anew") from None


def where(folder: SiteFolder, digits: str) -> tuple[Path, str]:
    """The file of a refused entry, and the member of it where it is a zip, else "".

    `digits` are the first 8 or more of the entry's hash. InputError where they fit none or several, and for
    a site whose images were pulled: what an archive sent has no file.
    """
    config = folder.config()
    if config.source.pulled:
        raise InputError("what came from an archive has no file here: its reason is counted by the pull")
    wanted = _entry(quarantine(folder), digits.lower()).key
    with open_ledger(folder, config) as ledger:
        terms = terms_of(folder, config, ledger.pseudonym)
    for name, source in find(locate(folder.path.resolve(), config.data.path).path):
        path = file_of(source)
        if path is not None and wanted in map(terms.file, _names(name, source)):
            return path, source.name if isinstance(source, Member) else ""
    raise InputError("no file of this name is in [data] any more: run medgan-client check for a new list")


def _entry(entries: list[Refused], digits: str) -> Refused:
    found = [entry for entry in entries if entry.key.startswith(digits)]
    if len(digits) < LEAST or len(found) != 1:
        raise InputError(
            f"--where {digits[:40]!r} fits {len(found)} entries of the quarantine: expected the first "
            f"{LEAST} digits or more of one of them"
        )
    return found[0]


def _names(name: str, source: Source) -> Iterator[str]:
    """What a file may have been called: by its place, or in a manifest by its place in a zip."""
    yield name
    if isinstance(source, Member):
        yield source.name
