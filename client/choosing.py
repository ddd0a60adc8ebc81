"""Which images [source] of site.toml takes, and what they show: functions of a header, and their digest."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from client.folder import SiteFolder
from client.source_section import SourceSection
from medgan_core.data.dicom.segments import segmentations, stamps
from medgan_core.data.pacs.labels import Labels, OneLabel, SegmentLabels, TableLabels, TagLabels
from medgan_core.data.places import Place, locate
from medgan_core.errors import DataError


@dataclass(frozen=True)
class Chosen:
    """The rules for files: those of `read_dicom_folder`. None where site.toml has no such rule."""

    admit: Callable[[Any], str | None] | None
    label_of: Callable[[Any], str | None] | None
    digest: str


def read_labels(folder: SiteFolder, section: SourceSection) -> Labels:
    """The labels as [source.label] says. DataError for a table that cannot be read."""
    label = section.label
    if label.kind == "table":
        place = locate(folder.path.resolve(), label.file)
        return TableLabels.read(place, place.path)
    if label.kind == "tag":
        return TagLabels.of(label.tag, label.map)
    return SegmentLabels(label.map, label.without) if label.kind == "seg" else OneLabel(label.label)


def rules_for_files(folder: SiteFolder, section: SourceSection, place: Place) -> Chosen:
    """The rules for a folder of DICOM files; without one of labels its manifest has them."""
    admit = section.cohort.refusal if section.cohort.rules else None
    if not section.label.given:
        return Chosen(admit, None, written(folder, section))
    labels = read_labels(folder, section)
    if not isinstance(labels, SegmentLabels):
        return Chosen(admit, labels.label_of, written(folder, section))
    digest = written(folder, section) + stamps(place.path)
    return Chosen(admit, _FromFiles(place, labels).label_of, digest)


def written(folder: SiteFolder, section: SourceSection) -> str:
    """All that decides about an image, as the site's person wrote it down; it may name patients."""
    said = section.cohort.model_dump_json() + section.label.model_dump_json()
    if section.label.kind == "table":
        path = locate(folder.path.resolve(), section.label.file).path
        said += sha256(path.read_bytes()).hexdigest()
    return said


@dataclass
class _FromFiles:
    """Labels by the segmentations of a folder, which are read when the first image is asked about."""

    place: Place
    labels: SegmentLabels
    ready: bool = False

    def label_of(self, header: Any) -> str | None:
        if not self.ready:
            for raw in segmentations(self.place.path):
                self._add(raw)
            self.ready = True
        return self.labels.label_of(header)

    def _add(self, raw: bytes) -> None:
        try:
            self.labels.add(raw)
        except DataError:  # its images are without a label then, and refused
            return
