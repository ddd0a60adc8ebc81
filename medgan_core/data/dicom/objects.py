"""What was pulled from an archive and kept bare, read for a study as files are: `Records`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medgan_core.config import DataConfig
from medgan_core.data.dicom.folder import cached_ingest
from medgan_core.data.dicom.sources import Sealed
from medgan_core.data.dicom.terms import Terms
from medgan_core.data.records import Records


@dataclass(frozen=True)
class Object:
    """A kept object: the name of its file, what it shows, its keyed patient."""

    name: str
    label: str
    patient: str
    source: Sealed


def read_objects(data: DataConfig, objects: Sequence[Object], terms: Terms) -> Records:
    """All of them. Each was looked at for text when it came, and is not again."""
    known = {terms.file(one.name): one for one in objects}
    plain = replace(terms, text_check=False, needs_patient=False)
    entries = [(one.name, one.source) for one in objects]
    found = cached_ingest(entries, data, plain, {one.name: one.patient for one in objects})
    return Records(
        images=found.images,
        labels=tuple(known[key].label for key in found.files),
        patients=found.patients,
        unit="patient",
        where=lambda i: f"pulled object {known[found.files[i]].name[:12]}",
        files=tuple(one.source.path for one in objects),
        report=replace(found.report, text_checked=terms.text_check),
    )
